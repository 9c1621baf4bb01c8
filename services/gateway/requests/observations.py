"""Checks observations against what a policy takes. Everything behind this module may rely on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from steersman import tensors
from steersman.errors import InvalidArgumentError
from steersman.quoting import quoted_names, quoted_shape
from steersman.v1 import common_pb2


@dataclass(frozen=True, slots=True)
class TensorFormat:
    """What one tensor of a policy looks like, ready for quick checks.

    Attributes:
        name: Wire name.
        dtype: Number of the element type.
        shape: Shape of one element, without the batch axis.
        row_bytes: Bytes of one element.
    """

    name: str
    dtype: common_pb2.DataType.ValueType
    shape: tuple[int, ...]
    row_bytes: int


class WireTensor(Protocol):
    """A tensor as it came, in whatever message: a `Tensor`, or what has the same attributes."""

    @property
    def dtype(self) -> common_pb2.DataType.ValueType:
        """Element type."""

    @property
    def shape(self) -> Sequence[int]:
        """Length of each axis."""

    @property
    def data(self) -> bytes:
        """The elements, little-endian and row-major."""


def tensor_formats(specs: Sequence[common_pb2.TensorSpec], kind: str) -> tuple[TensorFormat, ...]:
    """Prepares a policy's tensor specs for `read_observation`.

    Args:
        specs: The specs.
        kind: What they are of, for the message.

    Raises:
        InvalidArgumentError: If a spec makes no sense: unknown dtype, negative length, no name, no specs at all.
    """
    if not specs:
        raise InvalidArgumentError(f"expected at least one {kind} tensor, got none")
    formats = []
    for spec in specs:
        shape = tuple(spec.shape)
        dtype = tensors.NUMPY_DTYPES.get(spec.dtype)
        if dtype is None or not spec.name or any(length < 0 for length in shape):
            raise InvalidArgumentError(
                f"expected a named {kind} tensor with a known dtype, got {spec.name!r} "
                f"{tensors.describe(spec.dtype, shape)}"
            )
        row_bytes = dtype.itemsize
        for length in shape:
            row_bytes *= length
        formats.append(TensorFormat(spec.name, spec.dtype, shape, row_bytes))
    return tuple(formats)


@dataclass(frozen=True, slots=True)
class Observation:
    """Checked observations, still as the bytes that came.

    Attributes:
        data: For each tensor of the policy, in the order of its formats, the elements of all observations.
        size: How many observations; at least 1.
        batched: Whether they came with a leading batch axis, so that the answer has one too.
    """

    data: tuple[bytes, ...]
    size: int
    batched: bool


def read_observation(message: Mapping[str, WireTensor], formats: tuple[TensorFormat, ...]) -> Observation:
    """Checks a request's tensors and takes their bytes.

    Args:
        message: Tensors by wire name.
        formats: What the policy takes.

    Raises:
        InvalidArgumentError: If a tensor is missing or unknown, or its dtype, shape or byte count is not as expected.
    """
    if len(message) != len(formats):
        _refuse_names(message, formats)
    data = []
    size = 0  # unknown until the first tensor tells; 0 never is a batch size
    batched = False
    for expected in formats:
        if expected.name not in message:
            _refuse_names(message, formats)
        tensor = message[expected.name]
        shape = tuple(tensor.shape)
        if shape == expected.shape:
            rows, has_batch_axis = 1, False
        elif shape[1:] == expected.shape and shape[0] > 0:
            rows, has_batch_axis = shape[0], True
        else:
            rows, has_batch_axis = 0, False
        elements = tensor.data
        if (
            tensor.dtype != expected.dtype
            or not rows
            or len(elements) != rows * expected.row_bytes
            or (size and (rows, has_batch_axis) != (size, batched))
        ):
            _refuse_tensor(tensor, expected, (size, batched))
        size, batched = rows, has_batch_axis
        data.append(elements)
    return Observation(tuple(data), size, batched)


def refuse_nonfinite(observation: Observation, formats: tuple[TensorFormat, ...]) -> None:
    """Refuses NaN and infinity, for policies whose clients are not trusted to leave them out.

    Args:
        observation: A checked observation.
        formats: What the policy takes.

    Raises:
        InvalidArgumentError: If a floating-point tensor has an element that is not finite.
    """
    for expected, elements in zip(formats, observation.data, strict=True):
        dtype = tensors.NUMPY_DTYPES[expected.dtype]
        if dtype.kind == "f" and not np.isfinite(np.frombuffer(elements, dtype)).all():
            raise InvalidArgumentError(f"expected finite numbers in tensor {expected.name!r}, got NaN or infinity")


def _refuse_names(message: Mapping[str, WireTensor], formats: tuple[TensorFormat, ...]) -> None:
    expected = sorted(entry.name for entry in formats)
    raise InvalidArgumentError(f"expected observation tensors named {expected}, got {quoted_names(sorted(message))}")


def _refuse_tensor(tensor: WireTensor, expected: TensorFormat, others: tuple[int, bool]) -> None:
    """Says what is wrong with a tensor; the checks were made, so only the words are looked for."""
    wanted = tensors.describe(expected.dtype, expected.shape)
    shape = list(tensor.shape)
    if tensor.dtype != expected.dtype:
        got = tensors.describe(tensor.dtype, shape)
        raise InvalidArgumentError(f"expected tensor {expected.name!r} as {wanted}, got {got}")
    if tuple(shape) != expected.shape and (tuple(shape[1:]) != expected.shape or shape[0] < 1):
        raise InvalidArgumentError(
            f"expected tensor {expected.name!r} of shape {list(expected.shape)}, or a batch of at least 1 of them, "
            f"got shape {quoted_shape(shape)}"
        )
    rows = 1 if tuple(shape) == expected.shape else shape[0]
    if len(tensor.data) != rows * expected.row_bytes:
        raise InvalidArgumentError(
            f"expected {rows * expected.row_bytes} bytes of data for tensor {expected.name!r} of shape "
            f"{quoted_shape(shape)}, got {len(tensor.data)}"
        )
    size, batched = others
    before = f"a batch of {size}" if batched else "no batch axis"
    raise InvalidArgumentError(
        f"expected {before} for tensor {expected.name!r} as for the others, got shape {quoted_shape(shape)}"
    )
