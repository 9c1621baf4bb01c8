"""Gymnasium spaces on the wire, and samples of them as named tensors.

The client needs no Gymnasium: everything here works on `Space` messages. Only `from_gymnasium` imports it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from steersman import tensors
from steersman.errors import InvalidArgumentError
from steersman.v1 import common_pb2

if TYPE_CHECKING:
    import gymnasium

OBSERVATION = "observation"
"""Wire name of an observation that is a single tensor."""

ACTION = "action"
"""Wire name of an action that is a single tensor."""

Tensors = dict[str, npt.NDArray[np.generic]]
"""Arrays by wire name."""


def from_gymnasium(space: gymnasium.Space[Any]) -> common_pb2.Space:
    """Describes a Gymnasium space.

    Args:
        space: A `Box` or a `Discrete`.

    Raises:
        InvalidArgumentError: For any other kind of space.
    """
    import gymnasium

    if isinstance(space, gymnasium.spaces.Box):
        box = common_pb2.BoxSpace(
            dtype=tensors.wire_dtype(space.dtype or np.float32),
            shape=space.shape,
            low=_bounds(space.low),
            high=_bounds(space.high),
        )
        return common_pb2.Space(box=box)
    if isinstance(space, gymnasium.spaces.Discrete):
        discrete = common_pb2.DiscreteSpace(
            n=int(space.n), start=int(space.start), dtype=tensors.wire_dtype(space.dtype or np.int64)
        )
        return common_pb2.Space(discrete=discrete)
    raise InvalidArgumentError(f"expected a Box or Discrete space, got {space}")


def _bounds(values: npt.NDArray[Any]) -> list[float]:
    """Gives one bound for all elements where they are equal, else one per element."""
    flat = values.astype(np.float64).ravel()
    return flat[:1].tolist() if flat.size and (flat == flat[0]).all() else flat.tolist()


def tensor_specs(space: common_pb2.Space, root: str) -> list[common_pb2.TensorSpec]:
    """Lists the tensors that a sample of a space travels as.

    Args:
        space: The space.
        root: `OBSERVATION` or `ACTION`.

    Raises:
        InvalidArgumentError: If the message holds no kind of space that is known here.
    """
    kind = space.WhichOneof("kind")
    if kind == "box":
        return [common_pb2.TensorSpec(name=root, dtype=space.box.dtype, shape=space.box.shape)]
    if kind == "discrete":
        return [common_pb2.TensorSpec(name=root, dtype=space.discrete.dtype)]
    raise InvalidArgumentError(f"expected a box or discrete space for the {root}, got {kind or 'none'}")


def describe(space: common_pb2.Space) -> str:
    """Writes a space in a few words, as Gymnasium prints it."""
    if space.WhichOneof("kind") == "box":
        box = space.box
        return f"Box({_range(box.low)}, {_range(box.high)}, {tuple(box.shape)}, {tensors.dtype_name(box.dtype)})"
    discrete = space.discrete
    return f"Discrete({discrete.n})" if discrete.start == 0 else f"Discrete({discrete.n}, start={discrete.start})"


def _range(bounds: Any) -> str:  # noqa: ANN401 - protobuf's repeated container has no public name
    values = list(bounds)
    return str(values[0]) if len(values) == 1 else str(values)


def flatten(sample: npt.ArrayLike, specs: list[common_pb2.TensorSpec]) -> Tensors:
    """Turns a sample, or a batch of samples, into named tensors.

    Args:
        sample: What the environment emits: of the space's own shape, or with one more axis in front.
        specs: The tensors of the space, from a `PolicySpec`.

    Returns:
        The arrays by wire name, in the wire's dtypes; with a leading batch axis if and only if the sample has one.

    Raises:
        InvalidArgumentError: If the sample's shape does not fit, or its values would change in the wire's dtype, such
            as a float observation for an integer space.
    """
    (spec,) = specs
    array = np.asarray(sample)
    shape = tuple(spec.shape)
    if array.shape != shape and array.shape[1:] != shape:
        expected = tensors.describe(spec.dtype, shape)
        raise InvalidArgumentError(
            f"expected {spec.name} {expected}, or a batch of them, got {array.dtype.name}{list(array.shape)}"
        )
    dtype = tensors.NUMPY_DTYPES[spec.dtype]
    if not np.can_cast(array.dtype, dtype, casting="same_kind"):
        raise InvalidArgumentError(f"expected {spec.name} of dtype {dtype.name}, got {array.dtype.name}")
    return {spec.name: array.astype(dtype, copy=False)}


def unflatten(arrays: Tensors, specs: list[common_pb2.TensorSpec]) -> npt.NDArray[np.generic]:
    """Puts named tensors back together into a sample, or a batch of samples: the inverse of `flatten`.

    Args:
        arrays: Arrays by wire name.
        specs: The tensors of the space, from a `PolicySpec`.

    Raises:
        InvalidArgumentError: If a tensor is missing.
    """
    (spec,) = specs
    if spec.name not in arrays:
        raise InvalidArgumentError(f"expected a tensor named {spec.name}, got {sorted(arrays)}")
    return arrays[spec.name]
