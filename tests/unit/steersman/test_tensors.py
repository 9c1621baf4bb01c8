import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from steersman import tensors
from steersman.errors import InvalidArgumentError
from steersman.v1 import common_pb2

dtypes = st.sampled_from(list(tensors.NUMPY_DTYPES.values()))


@given(
    dtypes.flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)))
)
def test_decode_is_the_inverse_of_encode(array: np.ndarray) -> None:
    message = common_pb2.Tensor.FromString(tensors.encode(array).SerializeToString())
    decoded = tensors.decode(message)
    assert decoded.dtype == array.dtype
    assert decoded.shape == array.shape
    np.testing.assert_array_equal(decoded, array)


def test_big_endian_and_strided_arrays_travel_as_their_values() -> None:
    array = np.arange(12, dtype=">i4").reshape(3, 4)[:, ::2]
    np.testing.assert_array_equal(tensors.decode(tensors.encode(array)), array)


@given(
    st.integers(0, 20),
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4),
    st.binary(max_size=64),
)
def test_whatever_comes_is_decoded_or_refused(dtype: int, shape: list[int], data: bytes) -> None:
    message = common_pb2.Tensor(dtype=dtype, shape=shape, data=data)  # type: ignore[arg-type]
    try:
        decoded = tensors.decode(message)
    except InvalidArgumentError:
        return
    assert decoded.nbytes == len(data)
    assert list(decoded.shape) == shape


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (common_pb2.Tensor(data=b"1234"), "known dtype"),
        (common_pb2.Tensor(dtype=common_pb2.DATA_TYPE_FLOAT32, shape=[2], data=b"1234"), "expected 8 bytes.*got 4"),
        (common_pb2.Tensor(dtype=common_pb2.DATA_TYPE_FLOAT32, shape=[-1], data=b""), "negative"),
    ],
)
def test_a_refusal_says_what_was_expected_and_what_came(message: common_pb2.Tensor, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        tensors.decode(message)


def test_dtypes_that_cannot_travel_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="complex128"):
        tensors.encode(np.zeros(2, complex))
