"""The protocols against messages as the gateway writes them."""

import pytest

from bench.loads import LOADS
from bench.protocols import OPEN_INFERENCE, STEERSMAN, TRITON
from steersman.inference.v1 import inference_pb2
from steersman.v1 import common_pb2, policy_pb2

LOAD = LOADS["stream-32"]


def test_both_protocols_ask_the_same() -> None:
    act = policy_pb2.ActRequest.FromString(STEERSMAN.request(LOAD))
    infer = inference_pb2.ModelInferRequest.FromString(OPEN_INFERENCE.request(LOAD))
    assert act.policy == infer.model_name
    assert {name: tensor.data for name, tensor in act.observation.items()} == {
        tensor.name: data for tensor, data in zip(infer.inputs, infer.raw_input_contents, strict=True)
    }


def test_both_read_the_same_action() -> None:
    action = common_pb2.Tensor(dtype=common_pb2.DATA_TYPE_INT64, data=b"12345678")
    act = policy_pb2.ActResponse(action={"action": action})
    infer = inference_pb2.ModelInferResponse(raw_output_contents=[b"12345678"])
    infer.outputs.add(name="action", datatype="INT64")
    expected = {"action": b"12345678"}
    assert STEERSMAN.action(act.SerializeToString()) == expected
    assert OPEN_INFERENCE.action(infer.SerializeToString()) == expected
    streamed = policy_pb2.ActStreamResponse(id=77, response=act).SerializeToString()
    assert STEERSMAN.message_action(streamed) == expected
    assert STEERSMAN.answered(streamed) == (77, True)
    streamed = inference_pb2.ModelStreamInferResponse(infer_response=infer).SerializeToString()
    assert OPEN_INFERENCE.message_action(streamed) == expected
    assert OPEN_INFERENCE.answered(streamed) == (None, True)


def test_errors_are_no_answers() -> None:
    error = common_pb2.Status(code=5, message="no such policy")
    assert STEERSMAN.answered(policy_pb2.ActStreamResponse(id=3, error=error).SerializeToString()) == (3, False)
    refused = inference_pb2.ModelStreamInferResponse(error_message="no such policy")
    refused.infer_response.id = "3"
    assert OPEN_INFERENCE.answered(refused.SerializeToString()) == (None, False)


def test_ids_stay_short() -> None:
    with pytest.raises(ValueError, match="expected at most 127"):
        STEERSMAN.message(LOAD, 128)


def test_triton_is_asked_for_batches_only() -> None:
    for name, shape in (("unary-1", [1, 4]), ("vector-64", [64, 4])):
        (tensor,) = inference_pb2.ModelInferRequest.FromString(TRITON.request(LOADS[name])).inputs
        assert tensor.shape == shape
    (tensor,) = inference_pb2.ModelInferRequest.FromString(TRITON.message(LOAD, 3)).inputs
    assert tensor.shape == [1, 4]
