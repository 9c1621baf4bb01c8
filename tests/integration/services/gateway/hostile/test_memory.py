"""Whatever clients send, and however much of it, the gateway's memory stays bounded."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
import pytest
from google.protobuf.message import Message

from services.common.bundle import Bundle
from steersman import tensors
from steersman.inference.v1 import inference_pb2
from steersman.v1 import deployment_pb2, policy_pb2, policy_pb2_grpc
from tests.gateways import (
    GatewayProcess,
    describe,
    gateway_process,
    policy_stub,
    replica_process,
    silent_replica,
    until_replicas,
)
from tests.integration.services.gateway.hostile.requests import INFER_REQUEST, MEBIBYTE, REQUEST, status

pytestmark = pytest.mark.integration


def with_policy(text: str) -> Message:
    return policy_pb2.ActRequest(policy=text)


def with_alias(text: str) -> Message:
    return policy_pb2.ActRequest(policy=f"target@{text}")


def with_session(text: str) -> Message:
    return policy_pb2.ActRequest(policy="target", observation=REQUEST.observation, session_ids=[text])


def with_tensor(text: str) -> Message:
    return policy_pb2.ActRequest(policy="target", observation={text: REQUEST.observation["observation"]})


def with_model(text: str) -> Message:
    return inference_pb2.ModelInferRequest(model_name=text)


def with_version(text: str) -> Message:
    return inference_pb2.ModelInferRequest(model_name="target", model_version=text)


def changed(change: Callable[[inference_pb2.ModelInferRequest], None]) -> Message:
    request = inference_pb2.ModelInferRequest()
    request.CopyFrom(INFER_REQUEST)
    change(request)
    return request


def with_id(text: str) -> Message:
    return changed(lambda request: setattr(request, "id", text))


def with_input(text: str) -> Message:
    return changed(lambda request: setattr(request.inputs[0], "name", text))


def with_datatype(text: str) -> Message:
    return changed(lambda request: setattr(request.inputs[0], "datatype", text))


def with_output(text: str) -> Message:
    return changed(lambda request: request.outputs.add(name=text) and None)


def with_parameter(text: str) -> Message:
    return changed(lambda request: setattr(request.parameters[text], "int64_param", 1))


def with_sequence(text: str) -> Message:
    return changed(lambda request: setattr(request.parameters["sequence_id"], "string_param", text))


ACT, GET, INFER, READY, COUNTS, CONFIG, LOAD, ROUTE, HEALTH = (
    "steersman.v1.PolicyService/Act",
    "steersman.v1.PolicyService/GetPolicy",
    "inference.GRPCInferenceService/ModelInfer",
    "inference.GRPCInferenceService/ModelReady",
    "inference.GRPCInferenceService/ModelStatistics",
    "inference.GRPCInferenceService/ModelConfig",
    "inference.GRPCInferenceService/RepositoryModelLoad",
    "steersman.v1.DeploymentService/SetRoute",
    "grpc.health.v1.Health/Check",
)
WAYS: list[tuple[str, Callable[[str], Message]]] = [
    (ACT, with_policy),
    (ACT, with_alias),
    (ACT, with_session),
    (ACT, with_tensor),
    (GET, lambda text: policy_pb2.GetPolicyRequest(policy=text)),
    (INFER, with_model),
    (INFER, with_version),
    (INFER, with_id),
    (INFER, with_input),
    (INFER, with_datatype),
    (INFER, with_output),
    (INFER, with_parameter),
    (INFER, with_sequence),
    (READY, lambda text: inference_pb2.ModelReadyRequest(name=text)),
    (READY, lambda text: inference_pb2.ModelReadyRequest(name="target", version=text)),
    (COUNTS, lambda text: inference_pb2.ModelStatisticsRequest(name=text)),
    (CONFIG, lambda text: inference_pb2.ModelConfigRequest(name=text)),
    (LOAD, lambda text: inference_pb2.RepositoryModelLoadRequest(model_name=text)),
    (ROUTE, lambda text: deployment_pb2.SetRouteRequest(policy=text)),
    (HEALTH, lambda text: policy_pb2.GetPolicyRequest(policy=text)),  # a text in field 1, as its own has it
]
"""Where clients can put a text of their own."""


@pytest.mark.parametrize("letter", ["a", "1"])
def test_texts_of_any_length_are_not_kept(gateway: GatewayProcess, channel: grpc.Channel, letter: str) -> None:
    process = psutil.Process(gateway.process.pid)
    size = MEBIBYTE - 1000
    # Once before, so that what is made once for each is there.
    for path, write in WAYS:
        status(channel, path, write(letter * size).SerializeToString())
    before = process.memory_info().rss
    for number in range(10):
        for path, write in WAYS:
            text = f"{number}" + letter * size
            assert status(channel, path, write(text).SerializeToString()) != grpc.StatusCode.INTERNAL
    grown = (process.memory_info().rss - before) / MEBIBYTE
    # 200 MiB were sent.
    assert grown < 40, f"it grew by {grown:.0f} MiB"


async def test_requests_that_were_shed_expired_or_cancelled_are_not_kept(
    gateway: GatewayProcess, bundle: Bundle
) -> None:
    process = psutil.Process(gateway.process.pid)
    rows = np.ones((MEBIBYTE // 16 - 100, 4), np.float32)
    request = policy_pb2.ActRequest(policy="held", observation={"observation": tensors.encode(rows)})
    async with silent_replica(gateway, "held", bundle, max_batch_size=8), policy_stub(gateway) as stub:

        async def ask(count: int) -> None:
            # One waits until its deadline, the other is shed, since the queue takes no more than one such.
            for _ in range(count):
                calls = [stub.Act(request, timeout=0.25) for _ in range(2)]
                codes = {await call.code() for call in calls}
                assert codes == {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED}

        await ask(3)
        before = process.memory_info().rss
        await ask(20)
        grown = (process.memory_info().rss - before) / MEBIBYTE
    assert grown < 20, f"it grew by {grown:.0f} MiB"


async def test_answered_requests_are_gone_before_the_collector_comes(gateway: GatewayProcess) -> None:
    process = psutil.Process(gateway.process.pid)
    rows = np.ones((MEBIBYTE // 16 - 100, 4), np.float32)
    request = policy_pb2.ActRequest(policy="target", observation={"observation": tensors.encode(rows)})
    async with policy_stub(gateway) as stub:
        # The collector looks at how many objects there are and not at their size; these calls are too few for it.
        for _ in range(5):
            await stub.Act(request, timeout=20)
        before = process.memory_info().rss
        for _ in range(40):
            await stub.Act(request, timeout=20)
    assert (process.memory_info().rss - before) / MEBIBYTE < 15


async def test_messages_of_a_stream_that_were_refused_are_not_kept(gateway: GatewayProcess) -> None:
    process = psutil.Process(gateway.process.pid)
    async with policy_stub(gateway) as stub:
        call = stub.ActStream()

        async def ask(count: int) -> None:
            for number in range(count):
                request = policy_pb2.ActRequest(policy="a" * (MEBIBYTE - 1000))
                await call.write(policy_pb2.ActStreamRequest(id=number + 1, request=request))
                answer = await call.read()
                assert isinstance(answer, policy_pb2.ActStreamResponse)
                assert answer.error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
                assert len(answer.error.message) < 1000

        await ask(10)
        before = process.memory_info().rss
        await ask(100)
        grown = (process.memory_info().rss - before) / MEBIBYTE
        call.cancel()
    assert grown < 20, f"it grew by {grown:.0f} MiB"


@pytest.mark.long
def test_many_names_of_the_longest_that_is_looked_up_are_not_all_kept(
    gateway: GatewayProcess, channel: grpc.Channel
) -> None:
    process = psutil.Process(gateway.process.pid)
    act: Any = channel.unary_unary(f"/{ACT}")
    ready: Any = channel.unary_unary(f"/{READY}")

    def ask(numbers: range) -> None:
        for number in numbers:
            name = f"{number:0512}"
            calls = [
                act.future(policy_pb2.ActRequest(policy=name).SerializeToString()),
                ready.future(inference_pb2.ModelReadyRequest(name=name).SerializeToString()),
            ]
            codes = [call.code() for call in calls]
            assert codes == [grpc.StatusCode.NOT_FOUND, grpc.StatusCode.OK]

    # What is remembered is full by then.
    ask(range(5000))
    before = process.memory_info().rss
    ask(range(5000, 10_000))
    grown = (process.memory_info().rss - before) / MEBIBYTE
    # They have 2.5 MiB, and would be kept several times over.
    assert grown < 2, f"it grew by {grown:.1f} MiB"


def test_calls_of_methods_that_there_are_not_are_not_kept(gateway: GatewayProcess, channel: grpc.Channel) -> None:
    process = psutil.Process(gateway.process.pid)

    def ask(numbers: range) -> None:
        for number in numbers:
            assert status(channel, f"nobody/{number:01000}", b"x") == grpc.StatusCode.UNIMPLEMENTED

    ask(range(1000))
    before = process.memory_info().rss
    ask(range(1000, 5000))
    grown = (process.memory_info().rss - before) / MEBIBYTE
    assert grown < 4, f"it grew by {grown:.1f} MiB"


@contextlib.asynccontextmanager
async def greedy_stream(address: str, count: int) -> AsyncIterator[None]:
    """Opens a stream that sends so many requests, of 8 observations each, and never reads an answer."""
    # Without probing, its window stays at 64 KiB; else gRPC itself would take in megabytes on the client's side.
    channel = grpc.aio.insecure_channel(address, options=[("grpc.http2.bdp_probe", 0)])
    call = policy_pb2_grpc.PolicyServiceStub(channel).ActStream()
    request = policy_pb2.ActRequest(policy="target")
    request.observation["observation"].CopyFrom(tensors.encode(np.ones((8, 4), np.float32)))

    async def send() -> None:
        for index in range(count):
            await call.write(policy_pb2.ActStreamRequest(id=index + 1, request=request))

    sending = asyncio.create_task(send())
    try:
        yield
    finally:
        sending.cancel()
        call.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        await channel.close()


async def test_a_client_that_never_reads_is_not_read_from(gateway: GatewayProcess) -> None:
    process = psutil.Process(gateway.process.pid)
    before = process.memory_info().rss
    async with policy_stub(gateway) as stub, greedy_stream(gateway.address, 60_000):
        first = answered = (await describe(gateway, "target")).statistics.answered
        still = 0
        # It stands still once the windows of both directions are full; meanwhile others are served.
        async with asyncio.timeout(30):
            while still < 20 or answered < first + 500:
                await stub.Act(REQUEST, timeout=5)
                now = (await describe(gateway, "target")).statistics.answered
                still = still + 1 if now == answered + 1 else 0
                answered = now
        # A MiB of answers waits for it, and what the gateway has not read lies in buffers that are bounded as well.
        assert answered - first < 30_000
        grown = process.memory_info().rss - before
    assert grown < 50 * MEBIBYTE


STREAMS = 10_000
CHANNELS = 20


@pytest.mark.long
async def test_ten_thousand_open_streams_harm_nobody_and_leave_nothing(tmp_path: Path, bundle: Bundle) -> None:
    with gateway_process(tmp_path) as gateway, replica_process("target", bundle, gateway):
        await until_replicas(gateway, "target", 1)
        process = psutil.Process(gateway.process.pid)
        sizes = [process.memory_info().rss]
        for _ in range(2):
            async with open_streams(gateway.address, STREAMS), policy_stub(gateway) as neighbour_stub:
                await neighbour_stub.Act(REQUEST, timeout=5)
                sizes.append(process.memory_info().rss)
    first, second, third = (size / MEBIBYTE for size in sizes)
    assert (second - first) * 1024 / STREAMS < 48, f"KiB a stream: {first:.0f} MiB without, {second:.0f} MiB with them"
    assert third - second < 0.2 * (second - first), f"it grows: {first:.0f}, {second:.0f}, {third:.0f} MiB"


@contextlib.asynccontextmanager
async def open_streams(address: str, count: int) -> AsyncIterator[None]:
    """Keeps so many streams open, each of which has been answered once."""
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(CHANNELS):
            options = [("grpc.use_local_subchannel_pool", 1)]
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(address, options=options))
            stub = policy_pb2_grpc.PolicyServiceStub(channel)
            opened = [stub.ActStream() for _ in range(count // CHANNELS)]
            await asyncio.gather(*(call.write(policy_pb2.ActStreamRequest(id=1, request=REQUEST)) for call in opened))
            answers = await asyncio.gather(*(call.read() for call in opened))
            assert all(isinstance(answer, policy_pb2.ActStreamResponse) and answer.id == 1 for answer in answers)
        yield
