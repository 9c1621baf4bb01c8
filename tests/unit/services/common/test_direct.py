"""Direct handlers behave the same on both servers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest

from services.common.direct import StreamCall, UnaryCall, direct
from services.common.server import Service, create_server
from steersman.errors import FailedPreconditionError, InvalidArgumentError
from steersman.settings import Settings
from steersman.v1 import policy_pb2, policy_pb2_grpc
from tests.unit.services.common.servicer import refusal

pytestmark = pytest.mark.usefixtures("grpc_server")

LIMIT = 64 * 1024
SECONDS = 20

ACT = policy_pb2_grpc.PolicyServiceStub


class Stream:
    """Does with each request what its policy's name says."""

    def __init__(self, call: StreamCall) -> None:
        self.call = call
        self.received: list[int] = []
        self.half_closed = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.refused: list[str] = []

    def receive(self, message: policy_pb2.ActStreamRequest) -> None:
        self.received.append(message.id)
        kind = message.request.policy
        if kind == "fault":
            raise RuntimeError("a secret of the service")
        if kind == "large":
            try:
                self.call.send(policy_pb2.ActStreamResponse(response=policy_pb2.ActResponse(state=bytes(LIMIT))))
            except InvalidArgumentError as error:
                self.refused.append(str(error))
        if kind == "big":
            self.call.send(policy_pb2.ActStreamResponse(response=policy_pb2.ActResponse(state=bytes(LIMIT - 1000))))
        if kind == "pause":
            self.call.pause()
        if kind == "end":
            self.call.end(FailedPreconditionError("no more"))
        self.call.send(policy_pb2.ActStreamResponse(id=message.id))

    def half_close(self) -> None:
        self.half_closed.set()
        self.call.end()

    def cancel(self) -> None:
        self.cancelled.set()


class Servicer:
    """Leaves unary calls to the test.

    Attributes:
        calls: Those that have come, with their requests.
        cancelled: How many of them nobody waits for any more.
        streams: Those that have come.
    """

    def __init__(self) -> None:
        self.calls = asyncio.Queue[tuple[policy_pb2.ActRequest, UnaryCall]]()
        self.cancelled = 0
        self.streams = asyncio.Queue[Stream]()

    @direct
    def Act(self, request: policy_pb2.ActRequest, call: UnaryCall) -> None:  # noqa: N802
        if request.policy == "fault":
            raise RuntimeError("a secret of the service")
        if request.policy == "no":
            raise FailedPreconditionError("not this one")
        call.on_cancel = self._cancelled
        self.calls.put_nowait((request, call))

    @direct
    def ActStream(self, call: StreamCall) -> Stream:  # noqa: N802
        stream = Stream(call)
        self.streams.put_nowait(stream)
        return stream

    def _cancelled(self) -> None:
        self.cancelled += 1


@pytest.fixture
def servicer() -> Servicer:
    return Servicer()


@pytest.fixture
async def channel(servicer: Servicer) -> AsyncIterator[grpc.aio.Channel]:
    descriptor = policy_pb2.DESCRIPTOR.services_by_name["PolicyService"]
    settings = Settings(max_message_bytes=LIMIT, max_calls=2, max_streams=2)
    services = [Service(descriptor, servicer, carries_tensors=True)]
    server = create_server(settings, "127.0.0.1:0", services, grace_seconds=0)
    await server.start()
    options = [("grpc.enable_retries", 0)]
    async with grpc.aio.insecure_channel(server.address, options=options) as opened:
        yield opened
    await server.stop()


def act(channel: grpc.aio.Channel, policy: str = "", timeout: float = SECONDS) -> Any:  # noqa: ANN401 - a call
    return ACT(channel).Act(policy_pb2.ActRequest(policy=policy), timeout=timeout)


def open_stream(channel: grpc.aio.Channel) -> Any:  # noqa: ANN401 - a call
    return ACT(channel).ActStream(timeout=SECONDS)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110 - some of what is waited for tells nobody
            await asyncio.sleep(0.01)


async def test_a_call_ends_when_it_is_answered_and_once(channel: grpc.aio.Channel, servicer: Servicer) -> None:
    asked = act(channel)
    _, call = await servicer.calls.get()
    assert time.monotonic() + SECONDS / 2 < call.deadline < time.monotonic() + SECONDS + 1
    call.answer(policy_pb2.ActResponse(version=3))
    call.answer(policy_pb2.ActResponse(version=4))
    call.fail(RuntimeError("too late"))
    assert (await asked).version == 3
    assert servicer.cancelled == 0


async def test_a_call_ends_with_the_status_of_what_it_fails_with(channel: grpc.aio.Channel, servicer: Servicer) -> None:
    for error, code, words in (
        (FailedPreconditionError("not now"), grpc.StatusCode.FAILED_PRECONDITION, "not now"),
        (RuntimeError("a secret"), grpc.StatusCode.INTERNAL, "PolicyService.Act failed unexpectedly (RuntimeError)"),
    ):
        asked = act(channel)
        _, call = await servicer.calls.get()
        call.fail(error)
        refused = await refusal(asked)
        assert refused.code() == code
        assert words in str(refused.details())
        assert "a secret" not in str(refused.details())
    assert (await refusal(act(channel, "fault"))).code() == grpc.StatusCode.INTERNAL
    assert (await refusal(act(channel, "no"))).details() == "not this one"


async def test_an_answer_that_is_too_large_becomes_an_error(channel: grpc.aio.Channel, servicer: Servicer) -> None:
    asked = act(channel)
    _, call = await servicer.calls.get()
    call.answer(policy_pb2.ActResponse(state=bytes(LIMIT)))
    refused = await refusal(asked)
    assert refused.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert f"expected ActResponse of at most {LIMIT} bytes" in str(refused.details())


@pytest.mark.parametrize("how", ["cancel", "deadline"])
async def test_whom_nobody_waits_for_is_told_and_not_answered(
    channel: grpc.aio.Channel, servicer: Servicer, how: str
) -> None:
    asked = act(channel, timeout=SECONDS if how == "cancel" else 0.3)
    _, call = await servicer.calls.get()
    if how == "cancel":
        asked.cancel()
    await until(lambda: servicer.cancelled == 1)
    call.answer(policy_pb2.ActResponse())
    with pytest.raises((asyncio.CancelledError, grpc.aio.AioRpcError)):
        await asked


async def test_calls_beyond_the_limit_are_refused_and_those_that_end_make_room(
    channel: grpc.aio.Channel, servicer: Servicer
) -> None:
    for _ in range(3):
        open_calls = [act(channel), act(channel)]
        taken = [(await servicer.calls.get())[1] for _ in open_calls]
        refused = await refusal(act(channel))
        assert refused.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "STEERSMAN_MAX_CALLS" in str(refused.details())
        assert ("grpc-retry-pushback-ms" in dict(refused.trailing_metadata())) is True
        taken[0].answer(policy_pb2.ActResponse())
        taken[1].fail(FailedPreconditionError("no"))
        await asyncio.gather(*open_calls, return_exceptions=True)
    given_up = act(channel)
    await servicer.calls.get()
    given_up.cancel()
    await until(lambda: servicer.cancelled == 1)
    await refusal(act(channel, "no"))
    for _ in range(2):
        act(channel)
        await servicer.calls.get()


async def test_a_stream_is_told_what_comes_and_ends_well(channel: grpc.aio.Channel, servicer: Servicer) -> None:
    call = open_stream(channel)
    for number in (1, 2):
        await call.write(policy_pb2.ActStreamRequest(id=number))
        assert (await call.read()).id == number
    stream = await servicer.streams.get()
    await call.done_writing()
    assert await call.read() == grpc.aio.EOF
    assert await call.code() == grpc.StatusCode.OK
    assert stream.received == [1, 2]
    assert not stream.cancelled.is_set()


async def test_a_stream_goes_on_after_an_answer_that_is_too_large(
    channel: grpc.aio.Channel, servicer: Servicer
) -> None:
    call = open_stream(channel)
    await call.write(policy_pb2.ActStreamRequest(id=5, request=policy_pb2.ActRequest(policy="large")))
    assert (await call.read()).id == 5
    stream = await servicer.streams.get()
    assert f"expected ActStreamResponse of at most {LIMIT} bytes" in stream.refused[0]


async def test_a_stream_that_its_handler_ends_tells_what_was_sent_before(
    channel: grpc.aio.Channel, servicer: Servicer
) -> None:
    call = open_stream(channel)
    for number in range(100):
        await call.write(policy_pb2.ActStreamRequest(id=number + 1))
    await call.write(policy_pb2.ActStreamRequest(id=200, request=policy_pb2.ActRequest(policy="end")))
    answers = [(await call.read()).id for _ in range(100)]
    assert answers == list(range(1, 101))
    refused = await refusal(call.read())
    assert (refused.code(), refused.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "no more")
    assert not (await servicer.streams.get()).cancelled.is_set()


async def test_a_fault_of_a_stream_s_handler_ends_it_and_tells_it(
    channel: grpc.aio.Channel, servicer: Servicer
) -> None:
    call = open_stream(channel)
    await call.write(policy_pb2.ActStreamRequest(id=1, request=policy_pb2.ActRequest(policy="fault")))
    refused = await refusal(call.read())
    assert refused.code() == grpc.StatusCode.INTERNAL
    assert "PolicyService.ActStream failed unexpectedly (RuntimeError)" in str(refused.details())
    await (await servicer.streams.get()).cancelled.wait()


async def test_a_stream_whose_client_goes_is_told_once_and_makes_room(
    channel: grpc.aio.Channel, servicer: Servicer
) -> None:
    for _ in range(4):
        call = open_stream(channel)
        await call.write(policy_pb2.ActStreamRequest(id=1))
        await call.read()
        stream = await servicer.streams.get()
        call.cancel()
        # On grpcio's server a client that goes looks like one that half-closes at first.
        await until(lambda stream=stream: stream.cancelled.is_set() or stream.half_closed.is_set())  # type: ignore[misc]
        stream.call.send(policy_pb2.ActStreamResponse(id=2))
        stream.call.end()


async def test_a_paused_stream_is_not_read_until_it_resumes(channel: grpc.aio.Channel, servicer: Servicer) -> None:
    call = open_stream(channel)
    await call.write(policy_pb2.ActStreamRequest(id=1, request=policy_pb2.ActRequest(policy="pause")))
    assert (await call.read()).id == 1
    stream = await servicer.streams.get()
    await call.write(policy_pb2.ActStreamRequest(id=2))
    # Both are on one connection: when this is answered, what was sent before has come.
    other = act(channel)
    (await servicer.calls.get())[1].answer(policy_pb2.ActResponse())
    await other
    assert stream.received == [1]
    stream.call.resume()
    assert (await call.read()).id == 2


async def test_a_client_that_does_not_read_is_not_read_from(channel: grpc.aio.Channel, servicer: Servicer) -> None:
    call = open_stream(channel)
    requests = 1000
    for number in range(1, requests + 1):
        await call.write(policy_pb2.ActStreamRequest(id=number, request=policy_pb2.ActRequest(policy="big")))
    stream = await servicer.streams.get()
    await until(lambda: len(stream.received) > 10)
    # All are on one connection: with each of these, what was sent before has come, if it is taken at all.
    for _ in range(20):
        other = act(channel)
        (await servicer.calls.get())[1].answer(policy_pb2.ActResponse())
        await other
    assert len(stream.received) < requests / 2
    await call.done_writing()
    answers = [answer.id async for answer in call]
    assert [number for number in answers if number] == list(range(1, requests + 1))
