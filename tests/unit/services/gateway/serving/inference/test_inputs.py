import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from services.gateway.serving.inference.inputs import read_inputs
from steersman import tensors
from steersman.errors import InvalidArgumentError
from steersman.inference.v1 import inference_pb2
from tests.inference_stub import InferRequest, datatype, infer_request

CONTENTS = {
    "bool": "bool_contents",
    "int8": "int_contents",
    "int16": "int_contents",
    "int32": "int_contents",
    "int64": "int64_contents",
    "uint8": "uint_contents",
    "uint16": "uint_contents",
    "uint32": "uint_contents",
    "uint64": "uint64_contents",
    "float32": "fp32_contents",
    "float64": "fp64_contents",
}

dtypes = st.sampled_from(list(tensors.NUMPY_DTYPES.values()))
arrays = dtypes.flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, max_side=4)))


def typed_request(array: np.ndarray) -> InferRequest:
    request = InferRequest(model_name="m")
    tensor = request.inputs.add(name="observation", datatype=datatype(array.dtype), shape=array.shape)
    getattr(tensor.contents, CONTENTS[array.dtype.name]).extend(array.reshape(-1).tolist())
    return request


@given(arrays)
def test_raw_contents_are_taken_as_they_are(array: np.ndarray) -> None:
    found = read_inputs(infer_request("m", {"observation": array}))["observation"]
    assert found.data == array.tobytes()
    assert found.shape == array.shape
    assert tensors.NUMPY_DTYPES[found.dtype] == array.dtype


@given(arrays.filter(lambda array: array.dtype.name in CONTENTS))
def test_typed_contents_are_the_same_as_raw_ones(array: np.ndarray) -> None:
    found = read_inputs(typed_request(array))["observation"]
    np.testing.assert_array_equal(np.frombuffer(found.data, array.dtype), array.reshape(-1))


def test_typed_elements_that_do_not_fit_their_datatype_are_refused() -> None:
    request = typed_request(np.array([1, 2], np.int8))
    request.inputs[0].contents.int_contents.append(200)
    with pytest.raises(InvalidArgumentError, match="expected INT8 elements in input 'observation'"):
        read_inputs(request)


def with_contents(request: InferRequest) -> None:
    request.inputs[0].contents.fp32_contents.append(1.0)


def with_another_blob(request: InferRequest) -> None:
    request.raw_input_contents.append(b"")


def with_the_input_twice(request: InferRequest) -> None:
    request.inputs.append(request.inputs[0])
    request.raw_input_contents.append(request.raw_input_contents[0])


def with_texts(request: InferRequest) -> None:
    request.inputs[0].datatype = "BYTES"


def with_typed_halves(request: InferRequest) -> None:
    request.inputs[0].datatype = "FP16"
    del request.raw_input_contents[:]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (with_contents, "expected no contents in input 'observation'"),
        (with_another_blob, "expected raw_input_contents for each of 1 inputs, got 2"),
        (with_the_input_twice, "expected each input once"),
        (with_texts, "expected a datatype among BOOL.*got 'BYTES'"),
        (with_typed_halves, "in raw_input_contents, as FP16 has to be"),
    ],
)
def test_what_makes_no_sense_is_refused(change: object, words: str) -> None:
    request = infer_request("m", {"observation": np.ones(4, np.float32)})
    assert callable(change)
    change(request)
    with pytest.raises(InvalidArgumentError, match=words):
        read_inputs(request)


def test_a_request_without_tensors_has_none() -> None:
    assert read_inputs(inference_pb2.ModelInferRequest(model_name="m")) == {}
