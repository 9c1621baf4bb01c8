"""Takes the tensors of a request, raw or typed, as the bytes that replicas compute from."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from services.gateway.serving.inference.datatypes import read_datatype
from steersman import tensors
from steersman.errors import InvalidArgumentError
from steersman.inference.v1 import inference_pb2
from steersman.quoting import quoted, quoted_names
from steersman.v1 import common_pb2

_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}
"""Where typed elements are, by datatype. FP16 has no place."""

_LONGEST_REMEMBERED = 512
"""Bytes of a tensor's description that is remembered; names and shapes fit, and what clients send stays bounded."""


class InputTensor(NamedTuple):
    """One tensor of a request; a `WireTensor`.

    Attributes:
        dtype: Element type.
        shape: Length of each axis.
        data: The elements, little-endian and row-major.
    """

    dtype: common_pb2.DataType.ValueType
    shape: tuple[int, ...]
    data: bytes


def read_inputs(request: inference_pb2.ModelInferRequest) -> dict[str, InputTensor]:
    """Takes the tensors of a request, by name. Whether they fit the policy is for others to say.

    Raises:
        InvalidArgumentError: If a name is there twice, a datatype is unknown, raw and typed contents are mixed, there
            is not one raw content for each input, or typed elements do not fit their datatype.
    """
    raw = request.raw_input_contents
    inputs = request.inputs
    if raw and len(raw) != len(inputs):
        raise InvalidArgumentError(f"expected raw_input_contents for each of {len(inputs)} inputs, got {len(raw)}")
    found = {}
    if raw:
        for tensor, data in zip(inputs, raw, strict=True):
            # A client describes its tensors alike in every request, and one look at the description's bytes is cheaper
            # than reading each of its fields.
            description = tensor.SerializeToString()
            read = _read_description if len(description) <= _LONGEST_REMEMBERED else _read_description.__wrapped__
            name, dtype, shape = read(description)
            found[name] = InputTensor(dtype, shape, data)
    else:
        for tensor in inputs:
            found[tensor.name] = InputTensor(
                read_datatype(tensor.datatype), tuple(tensor.shape), _typed_elements(tensor)
            )
    if len(found) != len(inputs):
        raise InvalidArgumentError(
            f"expected each input once, got {quoted_names(sorted(tensor.name for tensor in inputs))}"
        )
    return found


@functools.lru_cache(maxsize=4096)
def _read_description(description: bytes) -> tuple[str, common_pb2.DataType.ValueType, tuple[int, ...]]:
    """Reads what a request says of a tensor whose elements are raw: its name, its element type and its shape."""
    tensor = inference_pb2.ModelInferRequest.InferInputTensor.FromString(description)
    if tensor.HasField("contents"):
        raise InvalidArgumentError(
            f"expected no contents in input {quoted(tensor.name)}, since the request has raw_input_contents"
        )
    return tensor.name, read_datatype(tensor.datatype), tuple(tensor.shape)


def _typed_elements(tensor: inference_pb2.ModelInferRequest.InferInputTensor) -> bytes:
    datatype = tensor.datatype
    dtype = tensors.NUMPY_DTYPES[read_datatype(datatype)]
    field = _CONTENTS.get(datatype)
    if field is None:
        raise InvalidArgumentError(
            f"expected input {quoted(tensor.name)} in raw_input_contents, as {datatype} has to be"
        )
    elements = getattr(tensor.contents, field)
    try:
        return np.fromiter(elements, dtype, len(elements)).tobytes()
    except OverflowError as error:
        raise InvalidArgumentError(f"expected {datatype} elements in input {quoted(tensor.name)}: {error}") from error
