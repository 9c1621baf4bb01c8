"""Direct handlers and the calls that they answer."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable

import pytest

from services.common.rpc.call import Call
from services.common.rpc.client_call import ClientCall
from services.common.rpc.errors import CallError, StateError
from services.common.rpc.limits import Limits
from services.common.rpc.methods import Methods
from services.common.rpc.receiver import Receiver
from services.common.rpc.states import CallState
from services.common.rpc.wire import Field, Status
from tests.unit.services.common.rpc.memory import Pair

UNARY, STREAM = "/test.Test/Unary", "/test.Test/Stream"


def fields_of(path: str, *more: Field) -> list[Field]:
    """The header fields of a call."""
    pseudo = [(b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", path.encode())]
    return [*pseudo, (b"content-type", b"application/grpc"), *more]


class Caller(ClientCall):
    """Keeps what comes."""

    def __init__(self, pair: Pair, path: str, timeout: float | None = None) -> None:
        super().__init__(pair.client)
        self.messages: list[bytes] = []
        timeouts = [(b"grpc-timeout", b"%dm" % (timeout * 1000))] if timeout is not None else []
        self.begin(fields_of(path, *timeouts), None)

    def message(self, message: bytes) -> None:
        self.messages.append(message)

    @property
    def status(self) -> Status | None:
        """The status; None if it has not come."""
        if not self.done:
            return None
        return Status.OK if self.error is None else self.error.status


class Stream(Receiver):
    """Keeps what it is told of one call."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.told: list[bytes | str] = []

    def message(self, message: bytes) -> None:
        self.told.append(message)

    def half_close(self) -> None:
        self.told.append("half close")

    def room(self) -> None:
        self.told.append("room")

    def cancel(self) -> None:
        self.told.append("cancel")


class Streams:
    """Opens streams and keeps them."""

    def __init__(self) -> None:
        self.opened: list[Stream] = []

    def __call__(self, call: Call) -> Stream:
        self.opened.append(Stream(call))
        return self.opened[-1]


def unary_pair(handler: Callable[[bytes, Call], None], limits: Limits | None = None) -> Pair:
    methods = Methods()
    methods.add_unary(UNARY, handler, bytes)
    return Pair(methods, limits)


def stream_pair(limits: Limits | None = None) -> tuple[Pair, Streams]:
    methods, streams = Methods(), Streams()
    methods.add_stream(STREAM, streams)
    return Pair(methods, limits), streams


async def test_an_answer_may_come_at_once_or_later() -> None:
    waiting: list[Call] = []

    def handler(request: bytes, call: Call) -> None:
        if request == b"later":
            waiting.append(call)
        else:
            call.finish(request)

    pair = unary_pair(handler)
    at_once, later = Caller(pair, UNARY), Caller(pair, UNARY)
    at_once.send(b"at once", last=True)
    later.send(b"later", last=True)
    pair.exchange()
    assert (at_once.status, at_once.messages) == (Status.OK, [b"at once"])
    assert not later.done
    waiting[0].finish(b"here", trailing=[("a", "b")])
    pair.exchange()
    assert (later.status, later.messages) == (Status.OK, [b"here"])
    assert (b"a", b"b") in later.trailing
    assert not pair.server.connection.calls
    assert not pair.client.calls


async def test_a_handler_may_fail_a_call_or_raise() -> None:
    def handler(request: bytes, call: Call) -> None:
        if request == b"fail":
            call.fail(Status.NOT_FOUND, "no", [("x-bin", b"\xff")])
        elif request == b"raise":
            raise CallError(Status.ABORTED, "stop")
        else:
            raise ValueError("oh")

    pair = unary_pair(handler)
    callers = [Caller(pair, UNARY) for _ in range(3)]
    for caller, request in zip(callers, (b"fail", b"raise", b"trip"), strict=True):
        caller.send(request, last=True)
    pair.exchange()
    assert [str(caller.error) for caller in callers] == [
        "NOT_FOUND: no",
        "ABORTED: stop",
        "UNKNOWN: Unexpected <class 'ValueError'>: oh",
    ]
    assert callers[0].error is not None
    assert callers[0].error.trailing == (("x-bin", b"\xff"),)


async def test_a_message_that_is_no_request_is_an_error() -> None:
    methods = Methods()
    methods.add_unary(UNARY, lambda request, call: call.finish(request), lambda message: message.decode().encode())
    pair = Pair(methods)
    caller = Caller(pair, UNARY)
    caller.send(b"\xff", last=True)
    pair.exchange()
    assert caller.status is Status.INTERNAL
    assert "expected a request of this method" in str(caller.error)


async def test_a_call_is_answered_only_once() -> None:
    def handler(request: bytes, call: Call) -> None:
        call.finish(request)
        with pytest.raises(StateError):
            call.finish(b"")
        with pytest.raises(StateError):
            call.fail(Status.ABORTED)
        with pytest.raises(StateError):
            call.send(b"")
        with pytest.raises(StateError):
            call.start()

    pair = unary_pair(handler)
    caller = Caller(pair, UNARY)
    caller.send(b"x", last=True)
    pair.exchange()
    assert (caller.status, caller.messages) == (Status.OK, [b"x"])


async def test_initial_metadata_are_sent_once_and_first() -> None:
    def handler(request: bytes, call: Call) -> None:
        call.start([("a", "b")])
        with pytest.raises(StateError):
            call.start()
        call.finish(request)

    pair = unary_pair(handler)
    caller = Caller(pair, UNARY)
    caller.send(b"x", last=True)
    pair.exchange()
    assert (b"a", b"b") in caller.initial


async def test_answers_to_a_call_that_was_cancelled_are_dropped() -> None:
    waiting: list[Call] = []
    cancelled: list[Call] = []

    def handler(_: bytes, call: Call) -> None:
        waiting.append(call)
        call.on_cancel = lambda: cancelled.append(call)

    pair = unary_pair(handler)
    callers = [Caller(pair, UNARY) for _ in range(4)]
    for caller in callers:
        caller.send(b"x", last=True)
    pair.exchange()
    for caller in callers:
        caller.cancel()
    pair.exchange()
    assert cancelled == waiting
    assert all(call.cancelled for call in waiting)
    waiting[0].finish(b"late")
    waiting[1].fail(Status.ABORTED)
    waiting[2].send(b"late")
    waiting[3].start()
    pair.exchange()
    assert [caller.status for caller in callers] == [Status.CANCELLED] * 4
    assert not pair.server.connection.calls


async def test_a_connection_that_is_lost_cancels_its_calls_once() -> None:
    pair, streams = stream_pair()
    Caller(pair, STREAM)
    pair.exchange()
    (stream,) = streams.opened
    pair.lose()
    stream.call.finish()
    assert stream.told == ["cancel"]
    assert stream.call.state is CallState.CANCELLED
    assert not pair.server.keeper.connections


async def test_a_deadline_is_known_and_kept() -> None:
    pair, streams = stream_pair()
    caller, endless = Caller(pair, STREAM, timeout=10), Caller(pair, STREAM)
    pair.exchange()
    with_deadline, without = streams.opened
    assert without.call.deadline == math.inf
    assert without.call.time_remaining() is None
    remaining = with_deadline.call.time_remaining()
    assert remaining is not None
    assert 9 < remaining <= 10
    pair.server.connection.upkeep.tick(time.monotonic() + 9)
    pair.exchange()
    assert caller.status is None
    pair.server.connection.upkeep.tick(time.monotonic() + 10)
    pair.exchange()
    assert caller.status is Status.DEADLINE_EXCEEDED
    assert with_deadline.told == ["cancel"]
    assert endless.status is None


async def test_a_stream_that_is_paused_is_told_nothing_until_it_goes_on() -> None:
    pair, streams = stream_pair(Limits(call_window_bytes=65_535))
    caller = Caller(pair, STREAM)
    pair.exchange()
    (stream,) = streams.opened
    stream.call.pause()
    for number in range(200):
        caller.send(b"%d" % number * 300)
    caller.half_close()
    pair.exchange()
    assert stream.told == []
    stream.call.resume()
    # It does not get all of it at once, since others have their turns.
    assert 0 < len(stream.told) < 50
    while len(stream.told) < 201:
        before = len(stream.told)
        await asyncio.sleep(0)
        pair.exchange()
        assert len(stream.told) > before
    assert stream.told == [*(b"%d" % number * 300 for number in range(200)), "half close"]
    stream.call.resume()
    stream.call.pause()
    stream.call.resume()
    assert stream.told[-2:] == [b"199" * 300, "half close"]


async def test_a_stream_may_pause_and_go_on_while_it_is_told() -> None:
    class Pausing(Stream):
        def message(self, message: bytes) -> None:
            super().message(message)
            self.call.pause()
            if message != b"5":
                self.call.resume()

    methods = Methods()
    opened: list[Pausing] = []

    def open_stream(call: Call) -> Pausing:
        opened.append(Pausing(call))
        return opened[-1]

    methods.add_stream(STREAM, open_stream)
    pair = Pair(methods)
    caller = Caller(pair, STREAM)
    for number in range(10):
        caller.send(b"%d" % number)
    pair.exchange()
    assert opened[0].told == [b"%d" % number for number in range(6)]
    opened[0].call.resume()
    assert opened[0].told == [b"%d" % number for number in range(10)]


async def test_a_stream_whose_answers_pile_up_is_not_read_from() -> None:
    pair, streams = stream_pair(Limits(max_call_unsent_bytes=10_000))
    caller = Caller(pair, STREAM)
    pair.exchange()
    (stream,) = streams.opened
    # More than the client has room for.
    for _ in range(2000):
        stream.call.send(bytes(1000))
    assert stream.call.full
    caller.send(b"waits")
    pair.client.flush()
    pair.server.connection.data_received(pair.client_transport.take())
    assert stream.told == ["room", b"waits"] or stream.told == []
    pair.exchange()
    assert stream.told == ["room", b"waits"]
    assert not stream.call.full
    assert len(caller.messages) == 2000


async def test_faults_of_a_handler_stay_with_its_call(caplog: pytest.LogCaptureFixture) -> None:
    class Faulty(Stream):
        def message(self, message: bytes) -> None:
            if message == b"trip":
                raise ValueError("tripped")
            self.call.send(message)

        def half_close(self) -> None:
            raise KeyError("half close")

        def cancel(self) -> None:
            raise RuntimeError("cancel")

    methods = Methods()

    def open_faulty(call: Call) -> Faulty:
        if call.metadata() == (("refuse", "yes"),):
            raise CallError(Status.PERMISSION_DENIED, "not you")
        return Faulty(call)

    methods.add_stream(STREAM, open_faulty)
    pair = Pair(methods)
    first, second, third = (Caller(pair, STREAM) for _ in range(3))
    refused = ClientCall(pair.client)
    refused.begin(fields_of(STREAM, (b"refuse", b"yes")), None)
    first.send(b"trip")
    first.send(b"more")
    second.send(b"x", last=True)
    third.send(b"x")
    with caplog.at_level(logging.ERROR):
        pair.exchange()
    assert [first.status, second.status, third.status] == [Status.UNKNOWN, Status.UNKNOWN, None]
    assert "tripped" in str(first.error)
    assert third.messages == [b"x"]
    assert refused.error is not None
    assert refused.error.status is Status.PERMISSION_DENIED
    assert "ValueError: tripped" in caplog.text
    assert "RuntimeError: cancel" in caplog.text


@pytest.mark.parametrize("size", [1001, 100_000])
async def test_an_answer_that_is_too_large_ends_the_call(size: int) -> None:
    pair = unary_pair(lambda _, call: call.finish(bytes(size)), Limits(max_send_message_bytes=1000))
    caller = Caller(pair, UNARY)
    caller.send(b"x", last=True)
    pair.exchange()
    assert caller.status is Status.RESOURCE_EXHAUSTED


async def test_trailing_metadata_that_cannot_be_sent_end_the_call_and_nothing_else() -> None:
    pair = unary_pair(lambda _, call: call.finish(b"x", trailing=[("Bad Key", "x")]))
    caller = Caller(pair, UNARY)
    caller.send(b"x", last=True)
    pair.exchange()
    assert caller.status is Status.UNKNOWN
    assert "expected a metadata key" in str(caller.error)
