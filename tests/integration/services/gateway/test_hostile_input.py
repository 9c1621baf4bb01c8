"""Clients and replicas that mean harm get a status; nothing crashes, hangs or grows, and no neighbour is harmed."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.common import frames
from services.common.bundle import Bundle
from services.policy.runtime import PolicyRuntime
from steersman import tensors
from steersman.v1 import common_pb2, policy_pb2, policy_pb2_grpc, replica_pb2
from tests.gateways import GatewayProcess, describe, gateway_process, policy_stub, replica_process, until_replicas

pytestmark = pytest.mark.integration

MEBIBYTE = 1024 * 1024
MAX_MESSAGE_BYTES = MEBIBYTE
OBSERVATION = np.ones(4, np.float32)
REQUEST = policy_pb2.ActRequest(policy="target", observation={"observation": tensors.encode(OBSERVATION)})
EXAMPLES = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
ANSWERS = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}
"""What a client may be told, whatever it sends."""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, bundle: Bundle) -> Iterator[GatewayProcess]:
    var_dir = tmp_path_factory.mktemp("gateway")
    with (
        gateway_process(var_dir, max_message_bytes=MAX_MESSAGE_BYTES, queue_bytes=8 * MEBIBYTE) as process,
        replica_process("target", bundle, process),
    ):
        asyncio.run(until_replicas(process, "target", 1))
        yield process


@pytest.fixture(scope="module")
def channel(gateway: GatewayProcess) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(gateway.address, options=[("grpc.enable_retries", 0)]) as channel:
        yield channel


@pytest.fixture(autouse=True)
def neighbour(gateway: GatewayProcess, bundle: Bundle) -> Iterator[None]:
    """After each test the gateway runs, has not grown and answers others, rightly."""
    process = psutil.Process(gateway.process.pid)
    before = process.memory_info().rss
    yield
    assert gateway.process.poll() is None
    expected = PolicyRuntime(bundle).compute({"observation": OBSERVATION[np.newaxis]})["action"][0]
    with grpc.insecure_channel(gateway.address) as channel:
        response = policy_pb2_grpc.PolicyServiceStub(channel).Act(REQUEST, timeout=5)
    assert tensors.decode(response.action["action"]) == expected
    grown = (process.memory_info().rss - before) / MEBIBYTE
    assert grown < 100, f"the gateway grew by {grown:.0f} MiB"


def status(channel: grpc.Channel, method: str, data: bytes) -> grpc.StatusCode:
    """Sends raw bytes as a unary call."""
    call: Any = channel.unary_unary(f"/steersman.v1.PolicyService/{method}")
    try:
        call(data, timeout=10)
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return grpc.StatusCode.OK


ANY_TENSOR = st.builds(
    lambda dtype, shape, data: common_pb2.Tensor(dtype=dtype, shape=shape, data=data),
    st.integers(-(2**31), 2**31 - 1) | st.integers(0, 14),
    st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-1, 5), max_size=6),
    st.binary(max_size=64) | st.just(OBSERVATION.tobytes()),
)
ANY_REQUEST = st.builds(
    policy_pb2.ActRequest,
    policy=st.sampled_from(["target", "target:1", "target:2", "target:-1", "target:99999999999999999999"])
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=300),
    observation=st.dictionaries(st.just("observation") | st.text(st.characters(codec="utf-8")), ANY_TENSOR, max_size=3),
    options=st.none()
    | st.builds(
        common_pb2.ActOptions,
        sample=st.booleans(),
        seed=st.none() | st.integers(0, 2**64 - 1),
        log_probability=st.booleans(),
        value=st.booleans(),
        action_distribution_inputs=st.booleans(),
    ),
    state=st.binary(max_size=64),
    session_ids=st.lists(st.text(st.characters(codec="utf-8"), max_size=200), max_size=3),
    episode_start=st.lists(st.booleans(), max_size=3),
    priority=st.integers(-(2**31), 2**31 - 1),
)


@st.composite
def mutated(draw: st.DrawFn, valid: bytes) -> bytes:
    """Draws valid bytes with some of them changed, cut out or repeated."""
    data = bytearray(valid)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 8)))
        data[start:end] = draw(st.binary(max_size=8))
    return bytes(data)


@given(request=ANY_REQUEST)
@EXAMPLES
def test_any_request_gets_a_status(channel: grpc.Channel, request: policy_pb2.ActRequest) -> None:
    assert status(channel, "Act", request.SerializeToString()) in ANSWERS


@given(data=mutated(REQUEST.SerializeToString()) | st.binary(max_size=200))
@EXAMPLES
def test_any_bytes_get_a_status(channel: grpc.Channel, data: bytes) -> None:
    assert status(channel, "Act", data) in ANSWERS


@given(data=mutated(policy_pb2.GetPolicyRequest(policy="target").SerializeToString()) | st.binary(max_size=50))
@EXAMPLES
def test_any_bytes_for_a_description_get_a_status(channel: grpc.Channel, data: bytes) -> None:
    assert status(channel, "GetPolicy", data) in ANSWERS


@given(requests=st.lists(ANY_REQUEST, max_size=8))
@EXAMPLES
def test_any_requests_of_a_stream_get_an_answer_each(
    channel: grpc.Channel, requests: list[policy_pb2.ActRequest]
) -> None:
    messages = [policy_pb2.ActStreamRequest(id=index, request=request) for index, request in enumerate(requests)]
    answers = policy_pb2_grpc.PolicyServiceStub(channel).ActStream(iter(messages), timeout=10)
    assert sorted(answer.id for answer in answers) == list(range(len(requests)))


@given(
    data=mutated(policy_pb2.ActStreamRequest(id=1, request=REQUEST, timeout_milliseconds=9).SerializeToString()),
)
@EXAMPLES
def test_any_bytes_on_a_stream_get_an_answer_and_it_goes_on(channel: grpc.Channel, data: bytes) -> None:
    call: Any = channel.stream_stream("/steersman.v1.PolicyService/ActStream")
    valid = policy_pb2.ActStreamRequest(id=2**40, request=REQUEST)
    answers = list(
        map(policy_pb2.ActStreamResponse.FromString, call(iter([data, valid.SerializeToString()]), timeout=10))
    )
    assert len(answers) == 2
    assert [answer.WhichOneof("result") for answer in answers if answer.id == valid.id] == ["response"]
    assert all(answer.error.code in {code.value[0] for code in ANSWERS} for answer in answers)


@given(
    messages=st.lists(
        mutated(
            replica_pb2.AttachRequest(
                announce=replica_pb2.Announce(
                    policy="hostile",
                    replica_id="x",
                    max_batch_size=1,
                    max_batches_in_flight=1,
                    versions=[replica_pb2.LoadedVersion(version=1)],
                )
            ).SerializeToString()
        )
        | mutated(
            replica_pb2.AttachRequest(
                result=replica_pb2.BatchResult(id=1, answer=replica_pb2.BatchAnswer())
            ).SerializeToString()
        ),
        max_size=3,
    )
)
@EXAMPLES
def test_any_messages_of_a_replica_are_taken_or_end_the_connection(
    gateway: GatewayProcess, messages: list[bytes]
) -> None:
    hang_up_after(gateway, frames.greeting() + b"".join(frames.frame(message) for message in messages))


@given(data=mutated(frames.greeting() + frames.frame(bytes(20))) | st.binary(max_size=200))
@EXAMPLES
def test_any_bytes_of_a_replica_end_the_connection(gateway: GatewayProcess, data: bytes) -> None:
    hang_up_after(gateway, data)


def test_oversized_messages_of_a_replica_end_the_connection(gateway: GatewayProcess) -> None:
    too_large = struct.pack("<I", MAX_MESSAGE_BYTES + 1)
    with replica_socket(gateway) as replica:
        replica.sendall(frames.greeting() + too_large)
        until_hung_up(replica)


def hang_up_after(gateway: GatewayProcess, data: bytes) -> None:
    """Sends bytes as a replica, sends no more, and waits until the gateway has hung up."""
    with replica_socket(gateway) as replica:
        # The gateway may already have hung up on the first of the bytes.
        with contextlib.suppress(OSError):
            replica.sendall(data)
            replica.shutdown(socket.SHUT_WR)
        until_hung_up(replica)


def replica_socket(gateway: GatewayProcess) -> socket.socket:
    """Connects to where replicas attach."""
    host, _, port = gateway.replica_address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=10)


def until_hung_up(replica: socket.socket) -> None:
    """Reads until the gateway has hung up.

    Raises:
        TimeoutError: If it does not.
    """
    with contextlib.suppress(ConnectionError):
        while replica.recv(65536):
            pass


@pytest.mark.parametrize(
    ("size", "code"),
    [
        (MAX_MESSAGE_BYTES, grpc.StatusCode.INVALID_ARGUMENT),
        # Such a one is not even read.
        (8 * MAX_MESSAGE_BYTES, grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
)
def test_oversized_messages_are_refused(channel: grpc.Channel, size: int, code: grpc.StatusCode) -> None:
    request = policy_pb2.ActRequest(policy="target", state=bytes(size))
    assert status(channel, "Act", request.SerializeToString()) == code


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
async def test_numbers_that_are_none_are_computed_unless_the_gateway_is_told_to_refuse_them(
    gateway: GatewayProcess, number: float
) -> None:
    observation = np.array([1, 2, 3, number], np.float32)
    request = policy_pb2.ActRequest(policy="target", observation={"observation": tensors.encode(observation)})
    async with policy_stub(gateway) as stub:
        await stub.Act(request, timeout=5)


async def test_a_gateway_can_refuse_numbers_that_are_none(
    tmp_path_factory: pytest.TempPathFactory, bundle: Bundle
) -> None:
    request = policy_pb2.ActRequest(policy="strict")
    with (
        gateway_process(tmp_path_factory.mktemp("gateway"), reject_nonfinite=True) as strict,
        replica_process("strict", bundle, strict),
    ):
        await until_replicas(strict, "strict", 1)
        async with policy_stub(strict) as stub:
            for number in (np.nan, np.inf, -np.inf):
                observation = np.array([1, 2, 3, number], np.float32)
                request.observation["observation"].CopyFrom(tensors.encode(observation))
                with pytest.raises(grpc.aio.AioRpcError, match="expected finite numbers") as refused:
                    await stub.Act(request, timeout=5)
                assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            request.observation["observation"].CopyFrom(tensors.encode(OBSERVATION))
            await stub.Act(request, timeout=5)


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
    async with policy_stub(gateway) as stub, greedy_stream(gateway.address, 20_000):
        first = answered = (await describe(gateway, "target")).statistics.answered
        still = 0
        # It stands still once the windows of both directions are full; meanwhile others are served.
        async with asyncio.timeout(30):
            while still < 20 or answered < first + 500:
                await stub.Act(REQUEST, timeout=5)
                now = (await describe(gateway, "target")).statistics.answered
                still = still + 1 if now == answered + 1 else 0
                answered = now
        # What the gateway has not read lies in gRPC's own buffers, which are bounded as well.
        assert answered - first < 10_000
        grown = process.memory_info().rss - before
    assert grown < 50 * MEBIBYTE


STREAMS = 10_000
CHANNELS = 20


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
