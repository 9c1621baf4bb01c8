"""Bounds: what the numbers of a sample may be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from steersman import tensors
from steersman.errors import InvalidArgumentError
from steersman.spaces.layouts import Layout, Leaf, Tensors
from steersman.v1 import common_pb2

_LARGEST = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Limits:
    """Between which numbers one tensor of a space lies.

    Attributes:
        leaf: The tensor.
        low: The smallest numbers, inclusive; of the leaf's shape, or without axes where one bound goes for all.
        high: The largest numbers, inclusive; likewise.
    """

    leaf: Leaf
    low: npt.NDArray[Any]
    high: npt.NDArray[Any]


def limits_of(layout: Layout) -> tuple[Limits, ...]:
    """Prepares a space for `check_limits`.

    Raises:
        InvalidArgumentError: If a space has neither one bound nor one for each element.
    """
    return tuple(Limits(leaf, *_bounds(leaf.space)) for leaf in layout.leaves)


def check_limits(arrays: Tensors, limits: Sequence[Limits]) -> None:
    """Checks that samples lie in their space, as Gymnasium's `Space.contains` does: NaN lies in no Box.

    Args:
        arrays: The samples, as `flatten` gives them.
        limits: The space's.

    Raises:
        InvalidArgumentError: If a number is beyond its bounds. The message names the tensor, the place in it, the
            bounds and the number.
    """
    for limit in limits:
        array = arrays[limit.leaf.name]
        inside = (array >= limit.low) & (array <= limit.high)
        if not inside.all():
            _refuse(array, limit, tuple(np.argwhere(~inside)[0].tolist()))


def box_bounds(box: common_pb2.BoxSpace) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Gives the bounds of a Box in its own dtype.

    Returns:
        The lower and the upper bounds: of the box's shape, or without axes where one goes for all elements.

    Raises:
        InvalidArgumentError: If there is neither one bound nor one for each element, or the dtype is unknown.
    """
    dtype, shape = tensors.NUMPY_DTYPES.get(box.dtype), tuple(box.shape)
    if dtype is None:
        raise InvalidArgumentError(f"expected a known dtype of a box, got number {box.dtype}")
    return _box_bound(np.array(box.low), dtype, shape), _box_bound(np.array(box.high), dtype, shape)


def _bounds(space: common_pb2.Space) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    kind = space.WhichOneof("kind")
    if kind == "box":
        return box_bounds(space.box)
    if kind == "discrete":
        discrete = space.discrete
        return np.array(discrete.start), np.array(min(discrete.start + discrete.n - 1, _LARGEST))
    if kind == "multi_discrete":
        shape = tuple(space.multi_discrete.shape)
        low = _each(np.array(space.multi_discrete.start, np.int64), shape)
        return low, low + (_each(np.array(space.multi_discrete.n, np.int64), shape) - 1)
    return np.array(0), np.array(1)


def _box_bound(numbers: npt.NDArray[Any], dtype: np.dtype[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    with np.errstate(invalid="ignore", over="ignore"):
        bound = numbers.astype(dtype)
    if dtype.kind in "iu":
        # The largest integers of 64 bits are not among the doubles; what is at the limit, or beyond it, is the limit.
        limits = np.iinfo(dtype)
        bound[numbers >= limits.max] = limits.max
        bound[numbers <= limits.min] = limits.min
    return bound.reshape(()) if bound.size == 1 else _each(bound, shape)


def _each(numbers: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    if numbers.size != math.prod(shape):
        raise InvalidArgumentError(f"expected {math.prod(shape)} bounds for shape {list(shape)}, got {numbers.size}")
    return numbers.reshape(shape)


def _refuse(array: npt.NDArray[Any], limit: Limits, index: tuple[int, ...]) -> None:
    axes = array.ndim - len(limit.leaf.shape)
    within = index[axes:]
    low, high = (bound[within] if bound.ndim else bound for bound in (limit.low, limit.high))
    place = f" at {list(within)}" if within else ""
    element = f" in element {index[0]} of the batch" if axes else ""
    raise InvalidArgumentError(
        f"expected {limit.leaf.name} between {low} and {high}{place}{element}, got {array[index]}"
    )
