"""The tensor codec: NumPy arrays to `Tensor` messages and back.

`Tensor.data` is the array's memory, little-endian and row-major, so encoding is one copy and decoding is none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from steersman.errors import InvalidArgumentError
from steersman.quoting import quoted_shape
from steersman.v1 import common_pb2

NUMPY_DTYPES: dict[common_pb2.DataType.ValueType, np.dtype[np.generic]] = {
    common_pb2.DATA_TYPE_BOOL: np.dtype("?"),
    common_pb2.DATA_TYPE_UINT8: np.dtype("u1"),
    common_pb2.DATA_TYPE_INT8: np.dtype("i1"),
    common_pb2.DATA_TYPE_UINT16: np.dtype("<u2"),
    common_pb2.DATA_TYPE_INT16: np.dtype("<i2"),
    common_pb2.DATA_TYPE_UINT32: np.dtype("<u4"),
    common_pb2.DATA_TYPE_INT32: np.dtype("<i4"),
    common_pb2.DATA_TYPE_UINT64: np.dtype("<u8"),
    common_pb2.DATA_TYPE_INT64: np.dtype("<i8"),
    common_pb2.DATA_TYPE_FLOAT16: np.dtype("<f2"),
    common_pb2.DATA_TYPE_FLOAT32: np.dtype("<f4"),
    common_pb2.DATA_TYPE_FLOAT64: np.dtype("<f8"),
}
"""NumPy's dtype for each `DataType` on the wire."""

_WIRE_DTYPES = {dtype: number for number, dtype in NUMPY_DTYPES.items()}


def wire_dtype(dtype: npt.DTypeLike) -> common_pb2.DataType.ValueType:
    """Gives the `DataType` on the wire for a NumPy dtype.

    Args:
        dtype: Anything that NumPy takes for a dtype, in any byte order.

    Raises:
        InvalidArgumentError: If the dtype cannot travel, such as strings or objects.
    """
    found = _WIRE_DTYPES.get(np.dtype(dtype).newbyteorder("<"))
    if found is None:
        names = ", ".join(str(known) for known in NUMPY_DTYPES.values())
        raise InvalidArgumentError(f"expected a dtype among {names}, got {np.dtype(dtype)}")
    return found


def dtype_name(number: common_pb2.DataType.ValueType) -> str:
    """Names a `DataType` as NumPy does, for messages; tells unknown numbers apart."""
    dtype = NUMPY_DTYPES.get(number)
    return f"unknown dtype {number}" if dtype is None else dtype.name


def encode(array: npt.NDArray[np.generic]) -> common_pb2.Tensor:
    """Encodes an array.

    Args:
        array: Any shape and byte order; any dtype of `NUMPY_DTYPES`.

    Raises:
        InvalidArgumentError: If the dtype cannot travel.
    """
    tensor = common_pb2.Tensor()
    encode_into(array, tensor)
    return tensor


def encode_into(array: npt.NDArray[np.generic], tensor: common_pb2.Tensor) -> None:
    """Encodes an array into a message that is part of another one, which saves a copy.

    Args:
        array: As for `encode`.
        tensor: Empty so far.

    Raises:
        InvalidArgumentError: If the dtype cannot travel.
    """
    dtype = array.dtype
    number = _WIRE_DTYPES.get(dtype) or wire_dtype(dtype)
    tensor.dtype = number
    tensor.shape.extend(array.shape)
    tensor.data = np.asarray(array, dtype=NUMPY_DTYPES[number]).tobytes()


def decode(tensor: common_pb2.Tensor) -> npt.NDArray[np.generic]:
    """Decodes a tensor.

    Args:
        tensor: The message.

    Returns:
        A read-only array over the message's bytes, of the message's shape and dtype.

    Raises:
        InvalidArgumentError: If the dtype is unknown, a length is negative, or dtype, shape and bytes do not agree.
    """
    dtype = NUMPY_DTYPES.get(tensor.dtype)
    if dtype is None:
        raise InvalidArgumentError(f"expected a known dtype, got number {tensor.dtype}")
    shape = tuple(tensor.shape)
    if shape and min(shape) < 0:
        raise InvalidArgumentError(f"expected a shape without negative lengths, got {quoted_shape(shape)}")
    data = tensor.data
    # Python's integers do not overflow, whatever the shape says.
    expected = math.prod(shape) * dtype.itemsize
    if len(data) != expected:
        raise InvalidArgumentError(f"expected {expected} bytes for {dtype.name}{quoted_shape(shape)}, got {len(data)}")
    return np.frombuffer(data, dtype=dtype).reshape(shape)


def describe(dtype: common_pb2.DataType.ValueType, shape: Sequence[int]) -> str:
    """Writes dtype and shape for a message, such as `float32[4]`."""
    return f"{dtype_name(dtype)}{quoted_shape(shape)}"
