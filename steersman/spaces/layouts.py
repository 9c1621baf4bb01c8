"""Which tensors a sample of a space travels as, and what they are called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from steersman import tensors
from steersman.errors import InvalidArgumentError
from steersman.v1 import common_pb2

OBSERVATION = "observation"
"""Wire name of an observation without parts, and what the names of its parts begin with."""

ACTION = "action"
"""Wire name of an action without parts, and what the names of its parts begin with."""

PREVIOUS_REWARD = "previous_reward"
"""Wire name of the reward of the step before, which some policies take besides the observation."""

Sample: TypeAlias = Any
"""A sample of a Gymnasium space, or a batch of samples: arrays and numbers, in dicts and tuples where it has parts."""

Tensors = dict[str, npt.NDArray[np.generic]]
"""Arrays by wire name."""

_NO_SHAPE: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Leaf:
    """A space without parts: one tensor on the wire.

    Attributes:
        name: Wire name of the tensor.
        dtype: Its dtype.
        shape: Its shape for one sample.
        space: The space.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    space: common_pb2.Space


@dataclass(frozen=True, slots=True)
class DictNode:
    """A space of named parts.

    Attributes:
        name: What the wire names of its parts begin with.
        parts: The parts by key.
    """

    name: str
    parts: Mapping[str, Node]


@dataclass(frozen=True, slots=True)
class TupleNode:
    """A space of numbered parts.

    Attributes:
        name: What the wire names of its parts begin with.
        parts: The parts.
    """

    name: str
    parts: tuple[Node, ...]


Node: TypeAlias = Leaf | DictNode | TupleNode


@dataclass(frozen=True, slots=True)
class Layout:
    """A space, prepared for turning many samples into tensors and back.

    Attributes:
        root: The space as a tree.
        leaves: Its tensors, in the order of the wire; at least one.
    """

    root: Node
    leaves: tuple[Leaf, ...]


def layout(space: common_pb2.Space, root: str) -> Layout:
    """Prepares a space.

    Args:
        space: The space.
        root: `OBSERVATION` or `ACTION`.

    Raises:
        InvalidArgumentError: If a part is of no kind or dtype that is known here, or there is no tensor in it at all.
    """
    node = _node(space, root)
    leaves = tuple(_leaves(node))
    if not leaves:
        raise InvalidArgumentError(f"expected at least one tensor in the {root} space, got none")
    return Layout(node, leaves)


def tensor_specs(space: common_pb2.Space, root: str) -> list[common_pb2.TensorSpec]:
    """Lists the tensors that a sample of a space travels as.

    Args:
        space: The space.
        root: `OBSERVATION` or `ACTION`.

    Raises:
        InvalidArgumentError: See `layout`.
    """
    return [
        common_pb2.TensorSpec(name=leaf.name, dtype=tensors.wire_dtype(leaf.dtype), shape=leaf.shape)
        for leaf in layout(space, root).leaves
    ]


def part_name(parent: str, key: str | int) -> str:
    """Names a part on the wire, by JSON Pointer's rules (RFC 6901).

    Args:
        parent: Name of the Dict or Tuple that it is part of.
        key: Its key or number there.
    """
    return f"{parent}/{str(key).replace('~', '~0').replace('/', '~1')}"


def part_path(name: str) -> list[str]:
    """Gives the keys and numbers that a wire name was made of, outermost first: the inverse of `part_name`.

    Args:
        name: Wire name of a tensor; its first piece, "observation" or "action", is left out.
    """
    return [piece.replace("~1", "/").replace("~0", "~") for piece in name.split("/")[1:]]


def _node(space: common_pb2.Space, name: str) -> Node:
    kind = space.WhichOneof("kind")
    if kind == "dict":
        parts = {part.key: _node(part.space, part_name(name, part.key)) for part in space.dict.parts}
        if len(parts) != len(space.dict.parts):
            raise InvalidArgumentError(f"expected different keys in {name}, got one of {sorted(parts)} twice")
        return DictNode(name, parts)
    if kind == "tuple":
        numbered = (_node(part, part_name(name, number)) for number, part in enumerate(space.tuple.parts))
        return TupleNode(name, tuple(numbered))
    if kind == "box":
        return Leaf(name, _dtype(space.box.dtype, name), tuple(space.box.shape), space)
    if kind == "discrete":
        return Leaf(name, _dtype(space.discrete.dtype, name), _NO_SHAPE, space)
    if kind == "multi_discrete":
        return Leaf(name, _dtype(space.multi_discrete.dtype, name), tuple(space.multi_discrete.shape), space)
    if kind == "multi_binary":
        return Leaf(name, _dtype(space.multi_binary.dtype, name), tuple(space.multi_binary.shape), space)
    raise InvalidArgumentError(f"expected a kind of space that is known here for {name}, got {kind or 'none'}")


def _dtype(number: common_pb2.DataType.ValueType, name: str) -> np.dtype[Any]:
    dtype = tensors.NUMPY_DTYPES.get(number)
    if dtype is None:
        raise InvalidArgumentError(f"expected a known dtype for {name}, got number {number}")
    return dtype


def _leaves(node: Node) -> Iterator[Leaf]:
    if isinstance(node, Leaf):
        yield node
        return
    for part in node.parts.values() if isinstance(node, DictNode) else node.parts:
        yield from _leaves(part)
