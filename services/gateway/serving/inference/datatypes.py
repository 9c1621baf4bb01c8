"""Element types in the protocol's words."""

from __future__ import annotations

from steersman.errors import InvalidArgumentError
from steersman.inference.v1 import model_config_pb2
from steersman.quoting import quoted
from steersman.v1 import common_pb2

_DATATYPES: dict[str, common_pb2.DataType.ValueType] = {
    "BOOL": common_pb2.DATA_TYPE_BOOL,
    "UINT8": common_pb2.DATA_TYPE_UINT8,
    "INT8": common_pb2.DATA_TYPE_INT8,
    "UINT16": common_pb2.DATA_TYPE_UINT16,
    "INT16": common_pb2.DATA_TYPE_INT16,
    "UINT32": common_pb2.DATA_TYPE_UINT32,
    "INT32": common_pb2.DATA_TYPE_INT32,
    "UINT64": common_pb2.DATA_TYPE_UINT64,
    "INT64": common_pb2.DATA_TYPE_INT64,
    "FP16": common_pb2.DATA_TYPE_FLOAT16,
    "FP32": common_pb2.DATA_TYPE_FLOAT32,
    "FP64": common_pb2.DATA_TYPE_FLOAT64,
}

DATATYPE_NAMES = {number: name for name, number in _DATATYPES.items()}
"""What the protocol calls each of our element types."""

MODEL_DATA_TYPES: dict[common_pb2.DataType.ValueType, model_config_pb2.ModelDataType.ValueType] = {
    number: model_config_pb2.ModelDataType.Value(f"MODEL_DATA_TYPE_{name}") for name, number in _DATATYPES.items()
}
"""What a model's configuration calls them."""


def read_datatype(name: str) -> common_pb2.DataType.ValueType:
    """Gives our number for a datatype.

    Raises:
        InvalidArgumentError: If no policy can take such elements.
    """
    found = _DATATYPES.get(name)
    if found is None:
        raise InvalidArgumentError(f"expected a datatype among {', '.join(_DATATYPES)}, got {quoted(name)}")
    return found
