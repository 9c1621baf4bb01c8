"""Samples of spaces as named tensors, alone or batched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from steersman.errors import InvalidArgumentError
from steersman.spaces.layouts import DictNode, Layout, Leaf, Node, Sample, Tensors, TupleNode

Array = npt.NDArray[Any]


def flatten(sample: Sample, layout: Layout) -> Tensors:
    """Turns a sample, or a batch of samples, into named tensors.

    A batch is what Gymnasium's vector environments give, that is, a dict or tuple of arrays that all have one more axis
    in front; or a list or tuple of samples. For a Tuple space of n parts these can look alike. There a sequence is a
    list of samples if its elements are lists or tuples of n things with as many axes as the parts have; else it is the
    n parts. So `(array([1, 3]), array([2, 4]))` and `[(1, 2), (3, 4)]` are the same batch of two.

    Args:
        sample: What the environment emits, or a batch of it.
        layout: The space.

    Returns:
        The arrays by wire name, in the wire's dtypes; with a leading batch axis if and only if the sample is a batch.

    Raises:
        InvalidArgumentError: If a part is missing or unknown, a shape does not fit, samples of a batch are missing in
            some part, or values would change in the wire's dtype, such as a float observation for an integer space.
    """
    if isinstance(layout.root, Leaf):
        return {layout.root.name: _tensor(sample, layout.root)}
    if _lists_samples(layout.root, sample):
        if not sample:
            raise InvalidArgumentError(f"expected at least one sample in a batch for {layout.root.name}, got none")
        columns = zip(*(_parts(layout.root, one) for one in sample), strict=True)
        values: Iterator[Any] = map(_stack, columns, layout.leaves)
    else:
        values = _parts(layout.root, sample)
    arrays = {leaf.name: _tensor(value, leaf) for value, leaf in zip(values, layout.leaves, strict=True)}
    axes = batch_axes(arrays, layout)
    for leaf in layout.leaves:
        if _axes(arrays[leaf.name], leaf) != axes:
            first = layout.leaves[0]
            raise InvalidArgumentError(
                f"expected as many samples of {leaf.name} as of {first.name}, "
                f"got shapes {list(arrays[leaf.name].shape)} and {list(arrays[first.name].shape)}"
            )
    return arrays


def unflatten(arrays: Mapping[str, npt.NDArray[np.generic]], layout: Layout) -> Sample:
    """Puts named tensors back together into a sample, or a batch of samples: the inverse of `flatten`.

    Args:
        arrays: Arrays by wire name.
        layout: The space.

    Returns:
        The sample, as the space itself would draw it. A batch has the arrays of all its samples in each part, as
        Gymnasium's vector environments have it; see `unbatch`.

    Raises:
        InvalidArgumentError: If a tensor is missing, or has another shape.
    """
    for leaf in layout.leaves:
        if leaf.name not in arrays:
            raise InvalidArgumentError(f"expected a tensor named {leaf.name!r}, got {sorted(arrays)}")
        shape = arrays[leaf.name].shape
        if leaf.shape not in (shape, shape[1:]):
            raise InvalidArgumentError(f"expected {leaf.name} of shape {list(leaf.shape)}, got {list(shape)}")
    return _assemble(layout.root, arrays)


def unbatch(batch: Sample, layout: Layout) -> list[Sample]:
    """Takes a batch apart.

    Args:
        batch: A batch as `unflatten` gives it.
        layout: The space.

    Returns:
        The samples, in order.
    """
    if isinstance(layout.root, Leaf):
        return _rows(layout.root, batch, len(batch))
    first = next(_parts(layout.root, batch))
    return _rows(layout.root, batch, len(first))


def plain(sample: Sample) -> Sample:
    """Gives a sample, or a batch of samples, as JSON has it: numbers and lists, in dicts where its space has keys."""
    if isinstance(sample, Mapping):
        return {key: plain(part) for key, part in sample.items()}
    if isinstance(sample, tuple):
        return [plain(part) for part in sample]
    return np.asarray(sample).tolist()


def batch_axes(arrays: Mapping[str, npt.NDArray[np.generic]], layout: Layout) -> tuple[int, ...]:
    """Tells how many samples tensors hold.

    Args:
        arrays: Arrays by wire name, as `flatten` gives them.
        layout: The space.

    Returns:
        Their number, as the shape in front of each sample's own; empty for a sample alone.
    """
    first = layout.leaves[0]
    return _axes(arrays[first.name], first)


def _axes(array: Array, leaf: Leaf) -> tuple[int, ...]:
    return array.shape[: array.ndim - len(leaf.shape)]


def _lists_samples(root: DictNode | TupleNode, value: Sample) -> bool:
    """Tells whether a value is a list of samples, by the rule that `flatten` documents."""
    if not isinstance(value, (list, tuple)):
        return False
    if isinstance(root, DictNode):
        return True
    length = len(root.parts)
    return (
        bool(value)
        and all(isinstance(element, (list, tuple)) and len(element) == length for element in value)
        and _resembles(root, value[0])
    )


def _resembles(node: Node, value: Sample) -> bool:
    """Tells whether a value has the parts of one sample, and each of them as many axes as it should."""
    if isinstance(node, DictNode):
        return (
            isinstance(value, Mapping)
            and value.keys() == node.parts.keys()
            and all(_resembles(part, value[key]) for key, part in node.parts.items())
        )
    if isinstance(node, TupleNode):
        return (
            isinstance(value, (list, tuple))
            and len(value) == len(node.parts)
            and all(map(_resembles, node.parts, value))
        )
    try:
        return not isinstance(value, Mapping) and np.ndim(value) == len(node.shape)
    except ValueError:
        return False  # sequences of unequal lengths


def _parts(node: Node, value: Sample) -> Iterator[Sample]:
    """Gives the value of each leaf, in the order of the leaves."""
    if isinstance(node, Leaf):
        yield value
    elif isinstance(node, DictNode):
        if not isinstance(value, Mapping) or value.keys() != node.parts.keys():
            got = sorted(map(str, value)) if isinstance(value, Mapping) else type(value).__name__
            raise InvalidArgumentError(f"expected {node.name} with the parts {sorted(node.parts)}, got {got}")
        for key, part in node.parts.items():
            yield from _parts(part, value[key])
    else:
        if not isinstance(value, (list, tuple)) or len(value) != len(node.parts):
            got = f"{len(value)} parts" if isinstance(value, (list, tuple)) else type(value).__name__
            raise InvalidArgumentError(f"expected {node.name} as a tuple of {len(node.parts)} parts, got {got}")
        for part, element in zip(node.parts, value, strict=True):
            yield from _parts(part, element)


def _stack(values: Sequence[Sample], leaf: Leaf) -> Array:
    """Makes one array of what the samples of a list have for a leaf."""
    arrays = [_array(value, leaf) for value in values]
    for index, array in enumerate(arrays):
        if array.shape != leaf.shape:
            raise InvalidArgumentError(f"{_expected(leaf)}, got {_got(array)} in element {index} of the batch")
    return np.stack(arrays)


def _tensor(value: Sample, leaf: Leaf) -> Array:
    """Gives a leaf's value, or a batch of them, as it travels."""
    array = _array(value, leaf)
    if array.shape != leaf.shape and (array.shape[1:] != leaf.shape or not len(array)):
        raise InvalidArgumentError(f"{_expected(leaf)}, or a batch of them, got {_got(array)}")
    if array.dtype == leaf.dtype:
        return array
    if array.dtype.kind in "biu" and leaf.dtype.kind in "biu":
        # Python's integers, and JSON's, come as int64 whatever the space has; they may, if they stay what they are.
        converted = array.astype(leaf.dtype)
        if not np.can_cast(array.dtype, leaf.dtype) and not np.array_equal(converted, array):
            raise InvalidArgumentError(
                f"expected numbers that {leaf.dtype.name} can hold for {leaf.name}, got {array.min()} to {array.max()}"
            )
        return converted
    if not np.can_cast(array.dtype, leaf.dtype, casting="same_kind"):
        raise InvalidArgumentError(f"expected {leaf.name} of dtype {leaf.dtype.name}, got {array.dtype.name}")
    return array.astype(leaf.dtype)


def _array(value: Sample, leaf: Leaf) -> Array:
    try:
        return np.asarray(value)
    except ValueError:
        raise InvalidArgumentError(f"{_expected(leaf)}, got sequences of unequal lengths") from None


def _expected(leaf: Leaf) -> str:
    return f"expected {leaf.name} {leaf.dtype.name}{list(leaf.shape)}"


def _got(array: Array) -> str:
    return f"{array.dtype.name}{list(array.shape)}"


def _assemble(node: Node, arrays: Mapping[str, Array]) -> Sample:
    if isinstance(node, DictNode):
        return {key: _assemble(part, arrays) for key, part in node.parts.items()}
    if isinstance(node, TupleNode):
        return tuple(_assemble(part, arrays) for part in node.parts)
    array = arrays[node.name]
    return array[()] if node.space.HasField("discrete") else array


def _rows(node: Node, batch: Sample, size: int) -> list[Sample]:
    if isinstance(node, DictNode):
        columns = [_rows(part, batch[key], size) for key, part in node.parts.items()]
        return [dict(zip(node.parts, row, strict=True)) for row in _transposed(columns, size)]
    if isinstance(node, TupleNode):
        return _transposed([_rows(part, element, size) for part, element in zip(node.parts, batch, strict=True)], size)
    if node.space.HasField("discrete"):
        return list(batch)
    # An array even where it has no axes, as Gymnasium's Box draws it.
    return [batch[index, ...] for index in range(size)]


def _transposed(columns: list[list[Sample]], size: int) -> list[tuple[Sample, ...]]:
    return list(zip(*columns, strict=True)) if columns else [()] * size
