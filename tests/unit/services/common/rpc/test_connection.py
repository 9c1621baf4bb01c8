"""A client and a server in memory: the calls are the same however their bytes are split."""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.rpc.call import Call
from services.common.rpc.events import Events
from services.common.rpc.http2 import Http2
from services.common.rpc.limits import Limits
from services.common.rpc.methods import Methods
from services.common.rpc.receiver import Receiver
from services.common.rpc.states import ConnectionState
from services.common.rpc.wire import Status, prefixed
from tests.unit.services.common.rpc.memory import MemoryServer, Pair, each_byte
from tests.unit.services.common.rpc.test_call import STREAM, UNARY, Caller, fields_of, stream_pair


class Log(Receiver):
    """Writes down what comes, and echoes it."""

    def __init__(self, call: Call, log: list[tuple[int, object]]) -> None:
        self._call = call
        self._log = log
        log.append((call.stream, "begins"))

    def message(self, message: bytes) -> None:
        self._log.append((self._call.stream, message))
        self._call.send(message)

    def half_close(self) -> None:
        self._log.append((self._call.stream, "half close"))
        self._call.finish()

    def cancel(self) -> None:
        self._log.append((self._call.stream, "cancel"))


def logging_methods() -> tuple[Methods, list[tuple[int, object]]]:
    log: list[tuple[int, object]] = []
    methods = Methods()
    methods.add_stream(STREAM, lambda call: Log(call, log))
    methods.add_unary(UNARY, lambda request, call: call.finish(request), bytes)
    return methods, log


def client_bytes() -> bytes:
    """What a client sends for calls of many kinds, without waiting for answers."""
    client = Http2(Events(), Limits(), client=True)

    def begin(path: str, *, ended: bool = False) -> int:
        return client.request(fields_of(path), ended=ended)

    first, second = begin(STREAM), begin(STREAM)
    client.send(first, prefixed(b"one") + prefixed(b"two")[:4])
    client.send(second, prefixed(b"other"), ended=True)
    client.send(first, prefixed(b"two")[4:] + prefixed(b""), ended=True)
    sent = client.output()
    begin(STREAM, ended=True)
    begin("/no.Service/Method", ended=True)
    unary = begin(UNARY)
    client.send(unary, prefixed(bytes(range(256)) * 50), ended=True)
    truncated = begin(STREAM)
    client.send(truncated, prefixed(b"never whole")[:-1], ended=True)
    sent += client.output()
    cancelled = begin(STREAM)
    client.send(cancelled, prefixed(b"taken back"))
    sent += client.output()
    client.reset(cancelled, 8)  # type: ignore[arg-type]
    client.ping()
    return sent + client.output()


SENT = client_bytes()


class Answers(Events):
    """What a client is answered, by stream."""

    def __init__(self) -> None:
        self.of: dict[int, list[object]] = {}

    def response_received(self, stream: int, fields: tuple[tuple[bytes, bytes], ...], ended: bool) -> None:
        self.of.setdefault(stream, []).append((fields, ended))

    def body_received(self, stream: int, data: bytes, ended: bool) -> None:
        answer = self.of.setdefault(stream, [])
        if answer and isinstance(answer[-1], bytes):
            answer[-1] += data
        else:
            answer.append(data)

    def trailers_received(self, stream: int, fields: tuple[tuple[bytes, bytes], ...]) -> None:
        self.of.setdefault(stream, []).append(fields)


def serve(chunks: Sequence[bytes]) -> tuple[list[tuple[int, object]], dict[int, list[object]]]:
    """Feeds a server; gives what its handlers were told, and what the client reads of its answers."""
    methods, log = logging_methods()
    server = MemoryServer(methods)
    for chunk in chunks:
        server.connection.data_received(chunk)
        server.connection.flush()
    answers = Answers()
    client = Http2(answers, Limits(), client=True)
    for _ in range(7):
        client.request(fields_of(STREAM))
    client.output()
    client.receive(server.transport.take())
    return log, answers.of


async def test_calls_are_told_and_answered_as_they_were_made() -> None:
    log, answers = serve([SENT])
    assert [entry for entry in log if entry[0] == 1] == [
        (1, "begins"),
        (1, b"one"),
        (1, b"two"),
        (1, b""),
        (1, "half close"),
    ]
    assert [entry for entry in log if entry[0] == 3] == [(3, "begins"), (3, b"other"), (3, "half close")]
    assert [entry for entry in log if entry[0] == 5] == [(5, "begins"), (5, "half close")]
    assert [entry for entry in log if entry[0] == 11] == [(11, "begins"), (11, "cancel")]
    assert [entry for entry in log if entry[0] == 13] == [(13, "begins"), (13, b"taken back"), (13, "cancel")]
    assert answers[1][1] == prefixed(b"one") + prefixed(b"two") + prefixed(b"")
    assert answers[9][1] == prefixed(bytes(range(256)) * 50)
    assert set(answers) == {1, 3, 5, 7, 9, 11} | ({13} & set(answers))


def ordered(log: list[tuple[int, object]]) -> dict[int, list[object]]:
    """What was told, by call: only within a call does an order hold."""
    return {stream: [told for number, told in log if number == stream] for stream, _ in log}


async def test_calls_are_the_same_a_byte_at_a_time() -> None:
    log, answers = serve([SENT])
    log_of_bytes, answers_of_bytes = serve(each_byte(SENT))
    assert ordered(log_of_bytes) == ordered(log)
    # The answer to what was taken back may have been sent before.
    assert {stream: answers_of_bytes[stream] for stream in range(1, 13, 2)} == {
        stream: answers[stream] for stream in range(1, 13, 2)
    }


@given(st.lists(st.integers(0, len(SENT)), max_size=30))
async def test_calls_are_the_same_however_bytes_are_split(cuts: list[int]) -> None:
    cuts = sorted(cuts)
    chunks = [SENT[start:end] for start, end in zip([0, *cuts], [*cuts, len(SENT)], strict=True)]
    whole, split = serve([SENT]), serve(chunks)
    assert ordered(split[0]) == ordered(whole[0])
    assert {stream: split[1][stream] for stream in range(1, 13, 2)} == {
        stream: whole[1][stream] for stream in range(1, 13, 2)
    }


@given(
    st.lists(st.lists(st.binary(max_size=3000), max_size=6), min_size=1, max_size=5),
    st.integers(1, 5000),
    st.sampled_from([65_535, 1_000_000]),
)
async def test_client_and_server_agree_over_any_pipe(calls: list[list[bytes]], chunk: int, window_bytes: int) -> None:
    methods, _ = logging_methods()
    pair = Pair(methods, Limits(call_window_bytes=window_bytes))
    callers = [Caller(pair, STREAM) for _ in calls]
    for caller, messages in zip(callers, calls, strict=True):
        for message in messages:
            caller.send(message)
        caller.half_close()
    pair.exchange(lambda data: [data[start : start + chunk] for start in range(0, len(data), chunk)])
    assert [caller.messages for caller in callers] == calls
    assert {caller.status for caller in callers} == {Status.OK}
    assert not pair.client.calls
    assert not pair.server.connection.calls
    assert pair.server.connection.partial_bytes == 0


async def test_one_read_is_answered_by_one_write() -> None:
    methods, _ = logging_methods()
    pair = Pair(methods)
    pair.exchange()
    callers = [Caller(pair, UNARY) for _ in range(32)]
    for caller in callers:
        caller.send(b"x", last=True)
    pair.client.flush()
    pair.server.connection.data_received(pair.client_transport.take())
    assert len(pair.server.transport.written) == 1
    pair.exchange()
    assert {caller.status for caller in callers} == {Status.OK}


async def test_a_transport_that_is_full_is_written_to_no_further_and_not_read_from() -> None:
    pair, streams = stream_pair()
    caller = Caller(pair, STREAM)
    pair.exchange()
    transport = pair.server.transport
    transport.full_bytes = 100_000
    for _ in range(50):
        streams.opened[0].call.send(bytes(20_000))
    pair.server.connection.flush()
    assert sum(map(len, transport.written)) < 100_000 + 300_000
    assert not transport.reading
    pair.exchange()
    assert transport.reading
    assert len(caller.messages) == 50


async def test_warnings_are_followed_by_the_last_word_once_the_client_has_answered() -> None:
    pair, streams = stream_pair()
    caller = Caller(pair, STREAM)
    pair.exchange()
    connection = pair.server.connection
    states = [connection.state]
    connection.drain()
    states.append(connection.state)
    pair.exchange()
    assert [*states, connection.state] == [ConnectionState.OPEN, ConnectionState.WARNED, ConnectionState.DRAINING]
    assert not pair.client.takes_calls
    streams.opened[0].call.finish(b"last")
    pair.exchange()
    assert caller.messages == [b"last"]
    assert pair.server.transport.closed


async def test_a_second_warning_is_not_needed() -> None:
    pair, _ = stream_pair()
    Caller(pair, STREAM)
    pair.exchange()
    pair.server.connection.drain()
    pair.server.connection.drain()
    pair.exchange()
    pair.server.connection.drain()
    pair.server.connection.go_away()
    assert pair.server.connection.state is ConnectionState.DRAINING


@pytest.mark.parametrize("greeted", [True, False])
async def test_silent_clients_are_given_up(*, greeted: bool) -> None:
    methods, _ = logging_methods()
    pair = Pair(methods, Limits(greeting_seconds=5, keepalive_seconds=10, keepalive_timeout_seconds=3))
    if greeted:
        pair.exchange()
    now = time.monotonic()
    upkeep, transport = pair.server.connection.upkeep, pair.server.transport
    upkeep.tick(now + 4)
    assert not transport.closed
    if not greeted:
        upkeep.tick(now + 6)
        assert transport.closed
        return
    upkeep.tick(now + 15)
    assert transport.take()[3] == 6
    upkeep.tick(now + 17)
    assert not transport.closed
    upkeep.tick(now + 19)
    assert transport.closed


async def test_a_client_that_answers_pings_is_kept() -> None:
    methods, _ = logging_methods()
    pair = Pair(methods, Limits(keepalive_seconds=10, keepalive_timeout_seconds=3))
    pair.exchange()
    now = time.monotonic()
    for seconds in range(0, 200, 2):
        pair.server.connection.upkeep.tick(now + seconds)
        pair.exchange()
    assert not pair.server.transport.closed


@pytest.mark.parametrize(("answered", "kept"), [(True, True), (False, False)])
async def test_only_pings_between_answers_are_a_flood(*, answered: bool, kept: bool) -> None:
    """Clients in Go send a ping for each answer, to measure how much they should let be on its way."""
    methods, _ = logging_methods()
    pair = Pair(methods, Limits(pings=(10, 0)))
    for _ in range(50):
        if answered:
            Caller(pair, UNARY).send(b"x", last=True)
            pair.exchange()
        pair.client.http2.ping()
        pair.exchange()
    assert pair.server.transport.closed is not kept


@given(st.lists(st.tuples(st.integers(0, len(SENT) - 1), st.integers(0, 255)), min_size=1, max_size=8), st.data())
async def test_any_bytes_end_a_connection_at_worst(changes: list[tuple[int, int]], data: st.DataObject) -> None:
    sent = bytearray(SENT)
    for place, byte in changes:
        sent[place] = byte
    cut = data.draw(st.integers(0, len(sent)))
    methods, log = logging_methods()
    server = MemoryServer(methods)
    for chunk in (bytes(sent[:cut]), bytes(sent[cut:])):
        if not server.transport.closed:
            server.connection.data_received(chunk)
            server.connection.flush()
            server.connection.upkeep.tick(time.monotonic() + 1)
    server.connection.connection_lost(None)
    for told in ordered(log).values():
        assert told[0] == "begins"
        assert told.count("half close") + told.count("cancel") <= 2
        assert "cancel" not in told[:-1]
    assert not server.connection.calls
    assert server.connection.partial_bytes == 0
    assert not server.keeper.connections


async def test_calls_that_are_over_need_no_garbage_collector() -> None:
    methods, _ = logging_methods()
    pair = Pair(methods)
    pair.exchange()
    gc.collect()
    gc.disable()
    try:
        before = sum(isinstance(thing, Call) for thing in gc.get_objects())
        for path in (UNARY, STREAM, "/no.Service/Method"):
            callers = [Caller(pair, path) for _ in range(50)]
            for caller in callers:
                caller.send(b"x", last=True)
            pair.exchange()
            assert all(caller.done for caller in callers)
        assert sum(isinstance(thing, Call) for thing in gc.get_objects()) == before
    finally:
        gc.enable()
