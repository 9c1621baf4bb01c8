"""Calls that clients cancel, lose or give up at every point; and servers that stop under them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from hyperframe.frame import Frame, PingFrame, RstStreamFrame

from services.common.rpc import Limits
from tests.integration.services.common.rpc.calls import (
    TIMEOUT,
    failure,
    stream_stream,
    stream_unary,
    unary,
    unary_stream,
)
from tests.integration.services.common.rpc.frames import RawConnection, body, headers, prefixed
from tests.integration.services.common.rpc.servers import (
    COLLECT,
    ECHO,
    REPEAT,
    SLEEP,
    STREAM,
    Kind,
    Options,
    RunningServer,
    running,
)

pytestmark = pytest.mark.integration


def endless() -> Iterator[bytes]:
    """Requests without end, slowly."""
    while True:
        yield b"message"
        time.sleep(0.01)


def test_a_cancelled_call_cancels_its_handler(channel: grpc.Channel, server: RunningServer) -> None:
    call = unary(channel, SLEEP).future(b"", timeout=TIMEOUT)
    server.seen.wait("sleeping")
    call.cancel()
    server.seen.wait("cancelled")
    server.seen.wait("done")
    assert call.cancelled()
    assert unary(channel, ECHO)(b"next", timeout=TIMEOUT) == b"next"


def test_a_deadline_that_passes_cancels_the_handler(channel: grpc.Channel, server: RunningServer) -> None:
    error = failure(lambda: unary(channel, SLEEP)(b"", timeout=0.2))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    server.seen.wait("cancelled")
    server.seen.wait("done")


def test_a_connection_that_breaks_cancels_the_handler(server: RunningServer) -> None:
    with RawConnection(server.address) as connection:
        connection.call(1, SLEEP, prefixed(b""))
        server.seen.wait("sleeping")
    server.seen.wait("cancelled")
    server.seen.wait("done")


def test_streams_can_be_cancelled_before_between_and_after_messages(channel: grpc.Channel) -> None:
    early: Any = stream_stream(channel, STREAM)(endless(), timeout=TIMEOUT)
    early.cancel()
    assert failure(lambda: next(early)).code() is grpc.StatusCode.CANCELLED

    between: Any = stream_stream(channel, STREAM)(endless(), timeout=TIMEOUT)
    assert next(between) == b"message"
    between.cancel()
    assert failure(lambda: [*between]).code() is grpc.StatusCode.CANCELLED

    late: Any = unary_stream(channel, REPEAT)(b"1000000 1000", timeout=TIMEOUT)
    assert len(next(late)) == 1000
    late.cancel()
    assert failure(lambda: [*late]).code() is grpc.StatusCode.CANCELLED
    assert unary(channel, ECHO)(b"next", timeout=TIMEOUT) == b"next"


@pytest.mark.parametrize("cut", range(8))
def test_a_reset_at_any_point_of_a_call_harms_no_other(server: RunningServer, cut: int) -> None:
    with RawConnection(server.address) as connection:
        message = prefixed(b"hello")
        begin = headers(connection.encoder, 1, STREAM)
        steps: list[list[Frame]] = [
            [begin],
            [body(1, message[:2])],
            [body(1, message[2:5])],
            [body(1, message[5:])],
            [body(1, message * 3)],
        ]
        if cut < 5:
            for frames in steps[: cut + 1]:
                connection.send(*frames)
        elif cut == 5:
            # Everything in one piece, so that the reset is there before the call is looked at.
            connection.send(*itertools.chain(*steps), RstStreamFrame(1, 8))
        elif cut == 6:
            connection.send(*itertools.chain(*steps), body(1, b"", ended=True), RstStreamFrame(1, 8))
        else:
            connection.send(*itertools.chain(*steps))
            connection.until(lambda: len(connection.answers[1].data) > 0 if 1 in connection.answers else False)
        connection.send(RstStreamFrame(1, 8))
        connection.call(3, ECHO, prefixed(b"next"))
        assert connection.answer(3).data == prefixed(b"next")


def test_stopping_lets_calls_in_flight_end(kind: Kind) -> None:
    with running(kind) as server, grpc.insecure_channel(server.address) as channel:
        calls: Any = stream_stream(channel, STREAM)(one_more_when_told(server), timeout=TIMEOUT)
        assert next(calls) == b"first"
        stopped = server.stop(grace=TIMEOUT)
        refused = failure(lambda: refuse_until_unavailable(server))
        assert refused.code() is grpc.StatusCode.UNAVAILABLE
        server.seen.may_read.set()
        assert list(calls) == [b"last"]
        stopped.result(TIMEOUT)


def one_more_when_told(server: RunningServer) -> Iterator[bytes]:
    """One request, and another one once `may_read` is set."""
    yield b"first"
    server.seen.may_read.wait(TIMEOUT)
    yield b"last"


def refuse_until_unavailable(server: RunningServer) -> None:
    """Calls on new connections until one is refused."""
    ends = time.monotonic() + TIMEOUT
    while time.monotonic() < ends:
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(server.address, options=options) as channel:
            unary(channel, ECHO)(b"", timeout=TIMEOUT)


@pytest.mark.parametrize("grace", [None, 0.2])
def test_calls_that_outlive_the_grace_are_cancelled(kind: Kind, grace: float | None) -> None:
    with running(kind) as server, grpc.insecure_channel(server.address) as channel:
        call = unary(channel, SLEEP).future(b"", timeout=TIMEOUT)
        server.seen.wait("sleeping")
        begun = time.monotonic()
        server.stop(grace).result(TIMEOUT)
        assert time.monotonic() - begun < 10
        server.seen.wait("cancelled")
        assert failure(call.result).code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}


def test_a_second_stop_shortens_the_grace(kind: Kind) -> None:
    with running(kind) as server, grpc.insecure_channel(server.address) as channel:
        call = unary(channel, SLEEP).future(b"", timeout=60)
        server.seen.wait("sleeping")
        patient = server.stop(grace=60)
        server.stop(grace=None).result(TIMEOUT)
        patient.result(TIMEOUT)
        assert failure(call.result).code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}


def test_a_server_goes_away_in_two_steps(our_kind: Kind) -> None:
    with running(our_kind) as server, RawConnection(server.address) as connection:
        connection.call(1, SLEEP, prefixed(b""))
        server.seen.wait("sleeping")
        stopped = server.stop(grace=TIMEOUT)
        connection.until(lambda: bool(connection.of(PingFrame)))
        (warning,) = connection.goaways
        assert (warning.last_stream_id, warning.error_code) == (2**31 - 1, 0)
        # A call that crossed the warning on the way.
        connection.call(3, ECHO, prefixed(b"crossed"))
        assert connection.answer(3).data == prefixed(b"crossed")
        pong = PingFrame(0, connection.of(PingFrame)[0].opaque_data)  # type: ignore[attr-defined]
        pong.flags.add("ACK")
        connection.send(pong)
        connection.until(lambda: len(connection.goaways) == 2)
        assert (connection.goaways[1].last_stream_id, connection.goaways[1].error_code) == (3, 0)
        # One that should have seen the last word.
        connection.call(5, ECHO, prefixed(b"too late"))
        connection.send(RstStreamFrame(1, 8))
        connection.until_closed()
        assert 5 not in connection.answers
        stopped.result(TIMEOUT)


def test_a_client_that_does_not_answer_the_warning_is_not_waited_for(our_kind: Kind) -> None:
    with running(our_kind) as server, RawConnection(server.address) as connection:
        connection.ping()
        stopped = server.stop(grace=60)
        connection.until_closed()
        stopped.result(TIMEOUT)


@pytest.mark.parametrize("grace", [0.0, 0.3])
def test_connections_end_at_their_age(kind: Kind, grace: float) -> None:
    limits = Limits(max_age_seconds=0.5, max_age_grace_seconds=grace or 20)
    with running(kind, Options(limits=limits)) as server, RawConnection(server.address) as connection:
        connection.call(1, SLEEP, prefixed(b""))
        server.seen.wait("sleeping")
        connection.until(lambda: connection.go_away is not None)
        if grace:
            connection.until_closed()
            server.seen.wait("cancelled")
        else:
            assert server.seen.cancelled == 0


def test_clients_notice_nothing_when_connections_get_old(kind: Kind) -> None:
    options = Options(limits=Limits(max_age_seconds=0.3, max_age_grace_seconds=20))
    with running(kind, options) as server, grpc.insecure_channel(server.address) as channel:
        peers: set[bytes] = set()
        ends = time.monotonic() + TIMEOUT
        while len(peers) < 3 and time.monotonic() < ends:
            peers.add(unary(channel, "/test.Test/Inspect")(b"", timeout=TIMEOUT).partition(b'"peer": ')[2][:40])
        assert len(peers) == 3


def test_idle_connections_end_and_busy_ones_do_not(kind: Kind) -> None:
    options = Options(limits=Limits(max_idle_seconds=0.5))
    with running(kind, options) as server, RawConnection(server.address) as idle, RawConnection(server.address) as busy:
        busy.call(1, SLEEP, prefixed(b""))
        server.seen.wait("sleeping")
        idle.call(1, ECHO, prefixed(b""))
        idle.answer(1)
        idle.until(lambda: idle.go_away is not None)
        busy.ping()
        assert busy.go_away is None


def test_a_client_that_does_not_answer_pings_loses_its_connection(our_kind: Kind) -> None:
    limits = Limits(keepalive_seconds=0.2, keepalive_timeout_seconds=0.4)
    with running(our_kind, Options(limits=limits)) as server:
        with RawConnection(server.address) as silent:
            silent.call(1, SLEEP, prefixed(b""))
            silent.until_closed()
        server.seen.wait("cancelled")
        with grpc.insecure_channel(server.address) as channel:
            call = unary(channel, SLEEP).future(b"", timeout=2)
            assert failure(call.result).code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_pings_of_clients_are_answered(server: RunningServer) -> None:
    with RawConnection(server.address) as connection:
        connection.ping()
        connection.ping()


def test_a_client_with_keepalive_may_be_idle(our_server: RunningServer) -> None:
    options = [
        ("grpc.keepalive_time_ms", 200),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    with grpc.insecure_channel(our_server.address, options=options) as channel:
        call = unary(channel, SLEEP).future(b"", timeout=2.5)
        assert failure(call.result).code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert unary(channel, ECHO)(b"x", timeout=TIMEOUT) == b"x"


def test_thousands_of_deadlines_that_pass_together_are_no_attack(our_server: RunningServer) -> None:
    with grpc.insecure_channel(our_server.address) as channel:
        assert unary(channel, ECHO)(b"x", timeout=TIMEOUT) == b"x"
        for _ in range(3):
            calls = [unary(channel, SLEEP).future(b"", timeout=1) for _ in range(1500)]
            assert {failure(call.result).code() for call in calls} == {grpc.StatusCode.DEADLINE_EXCEEDED}
        assert unary(channel, ECHO)(b"x", timeout=TIMEOUT) == b"x"


def test_calls_beyond_the_limit_wait_at_the_client(kind: Kind) -> None:
    options = Options(limits=Limits(max_concurrent_calls=3))
    with running(kind, options) as server, grpc.insecure_channel(server.address) as channel:
        assert unary(channel, ECHO)(b"x", timeout=TIMEOUT) == b"x"
        sleeping = [unary(channel, SLEEP).future(b"", timeout=60) for _ in range(3)]
        server.seen.wait("sleeping", 3)
        waiting = unary(channel, ECHO).future(b"y", timeout=TIMEOUT)
        with pytest.raises(grpc.FutureTimeoutError):
            waiting.result(0.3)
        sleeping[0].cancel()
        assert waiting.result(TIMEOUT) == b"y"


def test_collecting_can_be_cancelled(channel: grpc.Channel, server: RunningServer) -> None:
    call = stream_unary(channel, COLLECT).future(endless(), timeout=TIMEOUT)
    server.seen.may_read.set()
    server.seen.wait("collected", 3)
    call.cancel()
    assert unary(channel, ECHO)(b"next", timeout=TIMEOUT) == b"next"
