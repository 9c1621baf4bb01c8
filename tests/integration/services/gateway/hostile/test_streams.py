"""Streams: whatever messages come, each gets exactly one answer, and the stream goes on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.bundle import Bundle
from services.policy.runtime import PolicyRuntime
from steersman import tensors
from steersman.inference.v1 import inference_pb2
from steersman.v1 import common_pb2, policy_pb2
from tests.gateways import (
    GatewayProcess,
    attached_replica,
    gateway_process,
    policy_stub,
    silent_replica,
)
from tests.inference_stub import InferRequest, infer_request, inference_stub
from tests.integration.services.gateway.hostile.requests import (
    ANSWERS,
    ANY_REQUEST,
    EXAMPLES,
    INFER_REQUEST,
    INFER_TOO_LARGE,
    MAX_MESSAGE_BYTES,
    REQUEST,
    TOO_LARGE,
    mutated,
)
from tests.integration.services.gateway.hostile.test_messages import large_batch
from tests.odd_messages import messages

pytestmark = pytest.mark.integration

CODES = {code.value[0] for code in ANSWERS}
LAST = 2**40
"""The id of a request that makes sense and comes after all others."""


def act_message(request: policy_pb2.ActRequest, request_id: int = 1) -> bytes:
    return policy_pb2.ActStreamRequest(id=request_id, request=request).SerializeToString()


ANY_ACT_MESSAGE = (
    st.builds(act_message, ANY_REQUEST, st.integers(0, 5))
    | mutated(act_message(REQUEST))
    | st.binary(max_size=200)
    | st.sampled_from([act_message(REQUEST), act_message(TOO_LARGE), b""])
)
ANY_INFER_MESSAGE = (
    messages(InferRequest, INFER_REQUEST).map(InferRequest.SerializeToString)
    | mutated(INFER_REQUEST.SerializeToString())
    | st.binary(max_size=200)
    | st.sampled_from([INFER_REQUEST.SerializeToString(), INFER_TOO_LARGE.SerializeToString(), b""])
)


@given(sent=st.lists(ANY_ACT_MESSAGE, max_size=8))
@EXAMPLES
def test_every_message_of_a_stream_gets_one_answer_and_it_goes_on(channel: grpc.Channel, sent: list[bytes]) -> None:
    call: Any = channel.stream_stream("/steersman.v1.PolicyService/ActStream")
    received = call(iter([*sent, act_message(REQUEST, LAST)]), timeout=10)
    answers = [policy_pb2.ActStreamResponse.FromString(data) for data in received]
    assert len(answers) == len(sent) + 1
    assert {answer.error.code for answer in answers} <= CODES
    assert [answer.WhichOneof("result") for answer in answers if answer.id == LAST] == ["response"]


@given(sent=st.lists(ANY_INFER_MESSAGE, max_size=8))
@EXAMPLES
def test_every_message_of_an_inference_stream_gets_one_answer_in_its_order(
    channel: grpc.Channel, sent: list[bytes]
) -> None:
    valid = INFER_REQUEST.SerializeToString()
    call: Any = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
    received = call(iter([*sent, valid]), timeout=10)
    answers = [inference_pb2.ModelStreamInferResponse.FromString(data) for data in received]
    assert len(answers) == len(sent) + 1
    for data, answer in zip([*sent, valid], answers, strict=True):
        assert "unexpectedly" not in answer.error_message
        if data == valid:
            assert answer.infer_response.model_name == "target"
            assert not answer.error_message


async def test_neighbours_of_what_is_too_large_are_answered(gateway: GatewayProcess, bundle: Bundle) -> None:
    async with silent_replica(gateway, "held", bundle) as replica, policy_stub(gateway) as stub:
        held = policy_pb2.ActRequest(policy="held", observation=REQUEST.observation)
        call = stub.ActStream()
        await call.write(policy_pb2.ActStreamRequest(id=1, request=held))
        batch = await replica.next_batch()
        await call.write(policy_pb2.ActStreamRequest(id=2, request=TOO_LARGE))
        refused = await call.read()
        assert isinstance(refused, policy_pb2.ActStreamResponse)
        assert (refused.id, refused.error.code) == (2, grpc.StatusCode.INVALID_ARGUMENT.value[0])
        size = policy_pb2.ActStreamRequest(id=2, request=TOO_LARGE).ByteSize()
        assert f"of at most {MAX_MESSAGE_BYTES} bytes, got {size}" in refused.error.message
        assert "STEERSMAN_MAX_MESSAGE_BYTES" in refused.error.message
        replica.answer(batch, PolicyRuntime(bundle))
        answered = await call.read()
        assert isinstance(answered, policy_pb2.ActStreamResponse)
        assert (answered.id, answered.WhichOneof("result")) == (1, "response")
        call.cancel()


async def test_many_streams_that_send_ahead_are_held_back_and_not_refused(tmp_path: Path, bundle: Bundle) -> None:
    streams, requests = 12, 1000
    with gateway_process(tmp_path, queue_observations=512) as gateway:
        async with attached_replica(gateway, "target", {1: bundle}), policy_stub(gateway) as stub:

            async def pipeline() -> list[int]:
                call: Any = stub.ActStream()

                async def send() -> None:
                    for number in range(1, requests + 1):
                        await call.write(policy_pb2.ActStreamRequest(id=number, request=REQUEST))
                    await call.done_writing()

                sending = asyncio.create_task(send())
                codes = [answer.error.code async for answer in call]
                await sending
                return codes

            pipelines = [asyncio.create_task(pipeline()) for _ in range(streams)]
            async with policy_stub(gateway) as neighbour:
                while not all(task.done() for task in pipelines):
                    await neighbour.Act(REQUEST, timeout=5)
            answered = [await task for task in pipelines]
    assert answered == [[0] * requests] * streams


async def test_a_request_whose_answer_would_be_too_large_fails_alone(gateway: GatewayProcess) -> None:
    everything = common_pb2.ActOptions(log_probability=True, action_distribution_inputs=True)
    observation = {"observation": tensors.encode(large_batch())}
    request = policy_pb2.ActRequest(policy="target", observation=observation, options=everything)
    async with policy_stub(gateway) as stub:
        call = stub.ActStream(timeout=20)
        answers = []
        for request_id, one in ((1, REQUEST), (2, request), (3, REQUEST)):
            await call.write(policy_pb2.ActStreamRequest(id=request_id, request=one))
            answer = await call.read()
            assert isinstance(answer, policy_pb2.ActStreamResponse)
            answers.append((answer.id, answer.WhichOneof("result"), answer.error.message))
        call.cancel()
    assert [(request_id, kind) for request_id, kind, _ in answers] == [(1, "response"), (2, "error"), (3, "response")]
    assert f"expected ActStreamResponse of at most {MAX_MESSAGE_BYTES} bytes" in answers[1][2]


async def test_an_inference_whose_answer_would_be_too_large_fails_alone(gateway: GatewayProcess) -> None:
    request = infer_request("target", {"observation": large_batch()})
    for name in ("action", "log_probability", "action_distribution_inputs"):
        request.outputs.add(name=name)
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        call = inference_stub(channel).ModelStreamInfer(timeout=20)
        for number, one in enumerate((INFER_REQUEST, request, INFER_REQUEST)):
            message = InferRequest()
            message.CopyFrom(one)
            message.id = str(number)
            await call.write(message)
            answer = await call.read()
            assert isinstance(answer, inference_pb2.ModelStreamInferResponse)
            assert answer.infer_response.id == str(number)
            words = f"expected ModelStreamInferResponse of at most {MAX_MESSAGE_BYTES} bytes"
            assert (words in answer.error_message) == bool(answer.error_message) == (one is request)
        call.cancel()
