"""What holds for every call, by a real server and a client that checks nothing."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from services.common.rules import MAX_FIELDS, MAX_TEXT_BYTES, refuse_long_texts
from steersman.errors import InvalidArgumentError
from steersman.settings import Settings
from steersman.v1 import deployment_pb2, deployment_pb2_grpc, policy_pb2, policy_pb2_grpc, trainer_pb2
from tests.unit.services.common.servicer import MEBIBYTE, Policies, refusal, served

pytestmark = pytest.mark.usefixtures("grpc_server")

LIMIT = MEBIBYTE
SECONDS = 20


@pytest.fixture
async def channel() -> AsyncIterator[grpc.aio.Channel]:
    options = [("grpc.enable_retries", 0), ("grpc.max_receive_message_length", -1)]
    async with (
        served(Policies(), Settings(max_message_bytes=LIMIT)) as address,
        grpc.aio.insecure_channel(address, options=options) as opened,
    ):
        yield opened


async def act(channel: grpc.aio.Channel, policy: str, *session_ids: str) -> policy_pb2.ActResponse:
    request = policy_pb2.ActRequest(policy=policy, session_ids=session_ids)
    return await policy_pb2_grpc.PolicyServiceStub(channel).Act(request, timeout=SECONDS)


async def test_an_unexpected_error_is_logged_and_tells_the_client_its_class_only(
    channel: grpc.aio.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        error = await refusal(act(channel, "fault"))
    assert error.code() == grpc.StatusCode.INTERNAL
    assert error.details() == ("PolicyService.Act failed unexpectedly (RuntimeError); the service's log says more")
    assert "a secret of the service" in caplog.text


async def test_an_unexpected_error_ends_a_stream_of_answers_likewise(channel: grpc.aio.Channel) -> None:
    request = deployment_pb2.WatchDeploymentsRequest(policy="fault")
    call = deployment_pb2_grpc.DeploymentServiceStub(channel).WatchDeployments(request, timeout=SECONDS)
    await call.read()
    error = await refusal(call.read())
    assert error.code() == grpc.StatusCode.INTERNAL
    assert "WatchDeployments failed unexpectedly (RuntimeError)" in str(error.details())


@pytest.mark.parametrize("text", ["x", "ä", "%", "\n", "\N{GRINNING FACE}", "a b"])
@pytest.mark.parametrize("size", [1, 100, 4000, 100_000])
async def test_an_error_of_any_length_and_letters_arrives_with_its_status(
    channel: grpc.aio.Channel, text: str, size: int
) -> None:
    error = await refusal(act(channel, f"no@{size}", text))
    assert error.code() == grpc.StatusCode.FAILED_PRECONDITION
    words = str(error.details())
    assert (text * size).startswith(words.removesuffix("..."))
    assert words == text * size or len(words) > 300


@pytest.mark.parametrize("data", [b"\xff", b"\x0a\x02\xc3\x28", b"\x0a\x7fshort"])
async def test_bytes_that_are_no_message_are_refused(channel: grpc.aio.Channel, data: bytes) -> None:
    call: Any = channel.unary_unary("/steersman.v1.PolicyService/Act")
    error = await refusal(call(data, timeout=SECONDS))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert f"expected ActRequest, got {len(data)} other bytes" in str(error.details())


async def test_a_message_that_is_too_large_is_refused_with_size_limit_and_setting(channel: grpc.aio.Channel) -> None:
    request = policy_pb2.ActRequest(policy="x", state=bytes(LIMIT))
    stub = policy_pb2_grpc.PolicyServiceStub(channel)
    error = await refusal(stub.Act(request, timeout=SECONDS))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert error.details() == (
        f"expected ActRequest of at most {LIMIT} bytes, got {request.ByteSize()}; send smaller batches, or raise "
        "STEERSMAN_MAX_MESSAGE_BYTES at both ends"
    )
    request.state = bytes(LIMIT - 100)
    assert (await stub.Act(request, timeout=SECONDS)).version == 7
    # What is larger still is not read.
    request.state = bytes(2 * LIMIT)
    assert (await refusal(stub.Act(request, timeout=SECONDS))).code() == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_an_answer_that_is_too_large_is_refused(channel: grpc.aio.Channel) -> None:
    error = await refusal(act(channel, f"large@{LIMIT}"))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert f"expected ActResponse of at most {LIMIT} bytes, got " in str(error.details())
    assert len((await act(channel, f"large@{LIMIT - 100}")).state) == LIMIT - 100


async def test_requests_without_tensors_are_smaller_and_their_texts_are_checked(channel: grpc.aio.Channel) -> None:
    stub = deployment_pb2_grpc.DeploymentServiceStub(channel)
    await stub.Undeploy(deployment_pb2.UndeployRequest(policy="x" * 16 * 1024), timeout=SECONDS)
    for text, words in (
        ("x" * (16 * 1024 + 1), "expected texts of at most 16384 bytes, got a longer one in UndeployRequest.policy"),
        ("ä" * 10_000, "expected texts of at most 16384 bytes"),
        ("x" * MEBIBYTE, f"expected UndeployRequest of at most {MEBIBYTE} bytes, got"),
    ):
        error = await refusal(stub.Undeploy(deployment_pb2.UndeployRequest(policy=text), timeout=SECONDS))
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert words in str(error.details())


async def test_a_stream_goes_on_after_what_cannot_be_read(channel: grpc.aio.Channel) -> None:
    call: Any = channel.stream_stream("/steersman.v1.PolicyService/ActStream")(timeout=SECONDS)
    too_large = policy_pb2.ActStreamRequest(id=3, request=policy_pb2.ActRequest(state=bytes(LIMIT)))
    for data in (
        policy_pb2.ActStreamRequest(id=1).SerializeToString(),
        policy_pb2.ActStreamRequest(id=2, request=policy_pb2.ActRequest(policy="xyz")).SerializeToString()[:-1],
        too_large.SerializeToString(),
        b"\xff\xff",
        policy_pb2.ActStreamRequest(id=4).SerializeToString(),
    ):
        await call.write(data)
    await call.done_writing()
    answers = [policy_pb2.ActStreamResponse.FromString(data) async for data in call]
    assert [answer.id for answer in answers] == [1, 2, 3, 0, 4]
    assert [bool(answer.error.message) for answer in answers] == [False, True, True, True, False]
    assert f"of at most {LIMIT} bytes, got {too_large.ByteSize()}" in answers[2].error.message


async def test_methods_that_the_servicer_does_not_have_are_unimplemented(channel: grpc.aio.Channel) -> None:
    stub = policy_pb2_grpc.PolicyServiceStub(channel)
    error = await refusal(stub.ListPolicies(policy_pb2.ListPoliciesRequest(), timeout=SECONDS))
    assert error.code() == grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("where", ["key", "value", "nested"])
def test_texts_are_checked_however_deep_they_are(where: str) -> None:
    long = "x" * (MAX_TEXT_BYTES + 1)
    odd: dict[str, dict[str, Any]] = {"key": {long: 1}, "value": {"a": long}, "nested": {"a": [{"b": [1, long]}]}}
    request = trainer_pb2.StartRunRequest()
    request.spec.settings.update({"a": {"fits": "x" * MAX_TEXT_BYTES}})
    refuse_long_texts(request, "StartRunRequest")
    request.spec.settings.update(odd[where])
    with pytest.raises(InvalidArgumentError, match=r"a longer one in StartRunRequest\.spec\.settings"):
        refuse_long_texts(request, "StartRunRequest")


async def test_a_message_of_very_many_parts_is_refused_before_it_is_read(channel: grpc.aio.Channel) -> None:
    data = policy_pb2.ActRequest(policy="x").SerializeToString() + b"\x12\x00" * 200_000
    unary: Any = channel.unary_unary("/steersman.v1.PolicyService/Act")
    error = await refusal(unary(data, timeout=SECONDS))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert f"expected ActRequest with at most {MAX_FIELDS} fields" in str(error.details())
    stream: Any = channel.stream_stream("/steersman.v1.PolicyService/ActStream")
    call = stream(iter([b"\x08\x05\x12" + b"\x82\xb5\x18" + data[:400_002]]), timeout=SECONDS)
    (answer,) = [policy_pb2.ActStreamResponse.FromString(received) async for received in call]
    assert answer.id == 5
    assert f"with at most {MAX_FIELDS} fields" in answer.error.message
