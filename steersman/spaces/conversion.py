"""Gymnasium's spaces to `Space` messages and back. Gymnasium is imported only here, and only when it is needed."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from steersman import tensors
from steersman.errors import InvalidArgumentError
from steersman.spaces.limits import box_bounds
from steersman.v1 import common_pb2

if TYPE_CHECKING:
    import gymnasium


def from_gymnasium(space: gymnasium.Space[Any]) -> common_pb2.Space:
    """Describes a Gymnasium space.

    Args:
        space: A Box, Discrete, MultiDiscrete or MultiBinary, or a Dict or Tuple of such.

    Raises:
        InvalidArgumentError: For any other kind of space, with its place; for a Dict with keys that are no text; for a
            Box with bounds that no float64 can hold.
    """
    return _from_gymnasium(space, "")


def _from_gymnasium(space: gymnasium.Space[Any], path: str) -> common_pb2.Space:
    from gymnasium import spaces

    if isinstance(space, spaces.Box):
        return common_pb2.Space(box=_from_box(space))
    if isinstance(space, spaces.Discrete):
        dtype = tensors.wire_dtype(space.dtype or np.int64)
        return common_pb2.Space(discrete=common_pb2.DiscreteSpace(n=int(space.n), start=int(space.start), dtype=dtype))
    if isinstance(space, spaces.MultiDiscrete):
        multi_discrete = common_pb2.MultiDiscreteSpace(
            shape=space.shape,
            n=space.nvec.ravel().tolist(),
            start=space.start.ravel().tolist(),
            dtype=tensors.wire_dtype(space.dtype or np.int64),
        )
        return common_pb2.Space(multi_discrete=multi_discrete)
    if isinstance(space, spaces.MultiBinary):
        return common_pb2.Space(
            multi_binary=common_pb2.MultiBinarySpace(
                shape=space.shape, dtype=tensors.wire_dtype(space.dtype or np.int8)
            )
        )
    if isinstance(space, spaces.Dict):
        parts = [
            common_pb2.NamedSpace(key=_key(key), space=_from_gymnasium(part, f"{path}/{key}"))
            for key, part in space.spaces.items()
        ]
        return common_pb2.Space(dict=common_pb2.DictSpace(parts=parts))
    if isinstance(space, spaces.Tuple):
        return common_pb2.Space(
            tuple=common_pb2.TupleSpace(
                parts=[_from_gymnasium(part, f"{path}/{i}") for i, part in enumerate(space.spaces)]
            )
        )
    where = f" at {path[1:]}" if path else ""
    raise InvalidArgumentError(
        f"expected a Box, Discrete, MultiDiscrete, MultiBinary, Dict or Tuple space, got {space}{where}"
    )


def to_gymnasium(space: common_pb2.Space) -> gymnasium.Space[Any]:
    """Makes the Gymnasium space that a message describes.

    Args:
        space: The message. A MultiBinary of one axis is made from its length, as usual: Gymnasium holds
            `MultiBinary(4)` and `MultiBinary([4])` to be different.

    Raises:
        InvalidArgumentError: If the message describes none.
    """
    from gymnasium import spaces

    kind = space.WhichOneof("kind")
    try:
        if kind == "box":
            shape = tuple(space.box.shape)
            low, high = (np.broadcast_to(bound, shape).copy() for bound in box_bounds(space.box))
            return spaces.Box(low, high, dtype=low.dtype.type)
        if kind == "discrete":
            discrete = space.discrete
            return spaces.Discrete(discrete.n, start=discrete.start, dtype=tensors.NUMPY_DTYPES[discrete.dtype].name)
        if kind == "multi_discrete":
            return _to_multi_discrete(space.multi_discrete)
        if kind == "multi_binary":
            lengths = list(space.multi_binary.shape)
            return spaces.MultiBinary(lengths[0] if len(lengths) == 1 else lengths)
        if kind == "dict":
            # Gymnasium sorts the keys of other mappings.
            return spaces.Dict(OrderedDict((part.key, to_gymnasium(part.space)) for part in space.dict.parts))
        if kind == "tuple":
            return spaces.Tuple([to_gymnasium(part) for part in space.tuple.parts])
    except InvalidArgumentError:
        raise
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        raise InvalidArgumentError(f"expected a {kind} space that Gymnasium can make, got {space}: {error}") from error
    raise InvalidArgumentError(f"expected a kind of space that is known here, got {kind or 'none'}")


def _from_box(space: gymnasium.spaces.Box) -> common_pb2.BoxSpace:
    box = common_pb2.BoxSpace(
        dtype=tensors.wire_dtype(space.dtype or np.float32),
        shape=space.shape,
        low=_bounds(space.low),
        high=_bounds(space.high),
    )
    low, high = box_bounds(box)
    if not (np.all(low == space.low) and np.all(high == space.high)):
        raise InvalidArgumentError(f"expected bounds that float64 can hold, got {space}")
    return box


def _bounds(values: npt.NDArray[Any]) -> list[float]:
    """Gives one bound for all elements where they are equal, else one per element."""
    flat = values.astype(np.float64).ravel()
    return flat[:1].tolist() if flat.size and (flat == flat[0]).all() else flat.tolist()


def _to_multi_discrete(space: common_pb2.MultiDiscreteSpace) -> gymnasium.spaces.MultiDiscrete:
    from gymnasium import spaces

    dtype, shape = tensors.NUMPY_DTYPES[space.dtype], tuple(space.shape)
    lengths, starts = (np.array(list(values), dtype).reshape(shape) for values in (space.n, space.start))
    return spaces.MultiDiscrete(lengths, dtype=dtype.name, start=starts)


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise InvalidArgumentError(f"expected text for the keys of a Dict space, got {key!r}")
    try:
        key.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(f"expected Unicode text for the keys of a Dict space, got {key!r}") from error
    return key
