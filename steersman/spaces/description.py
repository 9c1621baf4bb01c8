"""Spaces in words, for people."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from steersman import tensors
from steersman.spaces.limits import box_bounds
from steersman.v1 import common_pb2

_SHOWN = 100
"""Arrays with more numbers are cut."""


def describe(space: common_pb2.Space) -> str:
    """Writes a space in a line, as Gymnasium prints it.

    Raises:
        InvalidArgumentError: If a box has neither one bound nor one for each element.
    """
    kind = space.WhichOneof("kind")
    if kind == "box":
        low, high = box_bounds(space.box)
        shape = tuple(space.box.shape)
        return f"Box({_numbers(low)}, {_numbers(high)}, {shape}, {tensors.dtype_name(space.box.dtype)})"
    if kind == "discrete":
        start = f", start={space.discrete.start}" if space.discrete.start else ""
        return f"Discrete({space.discrete.n}{start}{_dtype(space.discrete.dtype)})"
    if kind == "multi_discrete":
        shape = tuple(space.multi_discrete.shape)
        lengths, starts = (
            np.array(list(values), np.int64) for values in (space.multi_discrete.n, space.multi_discrete.start)
        )
        start = f", start={_numbers(starts.reshape(shape))}" if starts.any() else ""
        return f"MultiDiscrete({_numbers(lengths.reshape(shape))}{start}{_dtype(space.multi_discrete.dtype)})"
    if kind == "multi_binary":
        lengths_of_axes = tuple(space.multi_binary.shape)
        return f"MultiBinary({lengths_of_axes[0] if len(lengths_of_axes) == 1 else lengths_of_axes})"
    if kind == "dict":
        return "Dict(" + ", ".join(f"{part.key!r}: {describe(part.space)}" for part in space.dict.parts) + ")"
    if kind == "tuple":
        return "Tuple(" + ", ".join(describe(part) for part in space.tuple.parts) + ")"
    return "no space"


def _dtype(number: common_pb2.DataType.ValueType) -> str:
    return "" if number == common_pb2.DATA_TYPE_INT64 else f", dtype={tensors.dtype_name(number)}"


def _numbers(array: npt.NDArray[np.generic]) -> str:
    """Writes an array in a line, long ones without their middle."""
    if not array.ndim:
        return str(array[()])
    return " ".join(np.array2string(array, threshold=_SHOWN, edgeitems=3 if array.size <= _SHOWN else 1).split())
