"""What a hostile peer gets: a bounded answer, in bounded memory, while its neighbours go on."""

from __future__ import annotations

import resource
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import grpc
import pytest
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from services.common.rpc import Limits, Status
from tests.integration.services.common.rpc.calls import TIMEOUT, unary
from tests.integration.services.common.rpc.frames import PREFACE, RawConnection, body, headers, prefixed, window
from tests.integration.services.common.rpc.servers import ECHO, SLEEP, STREAM, Kind, Options, RunningServer, running

pytestmark = pytest.mark.integration

GREW_BYTES = 100 * 1024 * 1024


@pytest.fixture
def victim(our_server: RunningServer) -> Iterator[RunningServer]:
    """A server whose other clients notice nothing, and which needs little memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with grpc.insecure_channel(our_server.address) as neighbour, RawConnection(our_server.address) as busy:
        assert unary(neighbour, ECHO)(b"before", timeout=TIMEOUT) == b"before"
        busy.send(headers(busy.encoder, 1, STREAM), body(1, prefixed(b"before")))
        yield our_server
        assert unary(neighbour, ECHO)(b"after", timeout=TIMEOUT) == b"after"
        busy.send(body(1, prefixed(b"after"), ended=True))
        assert busy.answer(1).data == prefixed(b"before") + prefixed(b"after")
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < GREW_BYTES


def raw(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame that need not be one."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def send_until_closed(address: str, *chunks: bytes, times: int) -> int:
    """Sends bytes over and over without reading.

    Returns:
        How many times that worked before the server hung up or took no more.
    """
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.settimeout(2)
        connection.sendall(PREFACE + SettingsFrame(0).serialize())
        for count in range(times):
            try:
                for chunk in chunks:
                    connection.sendall(chunk)
            except (ConnectionResetError, BrokenPipeError, TimeoutError):
                return count
    return times


def test_rapid_reset(victim: RunningServer) -> None:
    with RawConnection(victim.address) as connection:
        for start in range(1, 100_000, 200):
            frames: list[Frame] = []
            for stream in range(start, start + 200, 2):
                frames += [headers(connection.encoder, stream, SLEEP), RstStreamFrame(stream, 8)]
            connection.send(*frames)
            if connection.closed:
                break
        connection.until_closed()
        assert connection.closed


def test_resets_at_the_rate_of_deadlines_are_borne(victim: RunningServer) -> None:
    with RawConnection(victim.address) as connection:
        for start in range(1, 8_000, 200):
            frames: list[Frame] = []
            for stream in range(start, start + 200, 2):
                frames += [headers(connection.encoder, stream, SLEEP), RstStreamFrame(stream, 8)]
            connection.send(*frames)
            connection.ping()


def test_half_open_calls_beyond_the_limit_end_their_connection(our_kind: Kind) -> None:
    options = Options(limits=Limits(max_concurrent_calls=100))
    with running(our_kind, options) as server, RawConnection(server.address) as connection:
        connection.ping()
        connection.send(*(headers(connection.encoder, stream, SLEEP) for stream in range(1, 2 * 101, 2)))
        connection.until_closed()
        assert connection.go_away == 1


@pytest.mark.parametrize("junk", [b"\x0a\xff\xff\xff\xff\x0f" + bytes(range(256)), raw(0, 0, 0), raw(4, 0, 1)])
def test_a_greeting_and_then_no_http2_ends_at_once(victim: RunningServer, junk: bytes) -> None:
    host, _, port = victim.address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(PREFACE + junk)
        while connection.recv(65536):
            pass


def test_continuation_flood(victim: RunningServer) -> None:
    with RawConnection(victim.address) as connection:
        begin = headers(connection.encoder, 1, ECHO)
        begin.flags.discard("END_HEADERS")
        connection.send(begin)
        for _ in range(10_000):
            connection.send(ContinuationFrame(1, b"\x40\x01a\x01b"))
            if connection.closed:
                break
        connection.until_closed()


def test_header_bomb(victim: RunningServer) -> None:
    with RawConnection(victim.address) as connection:
        bomb = headers(connection.encoder, 1, ECHO)
        # A field of 4,000 bytes, and then thousands of references to it.
        bomb.data += b"\x40\x01b\x7f\x81\x1e" + b"x" * 4000 + b"\xbe" * 4000
        connection.send(bomb)
        connection.until_closed()


def test_many_small_headers(victim: RunningServer) -> None:
    with RawConnection(victim.address) as connection:
        many = headers(connection.encoder, 1, ECHO, *((f"x-{number}", "v") for number in range(900)))
        connection.send(many)
        assert connection.answer(1).status == Status.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("read", [True, False])
def test_ping_flood(victim: RunningServer, *, read: bool) -> None:
    pings = PingFrame(0, b"12345678").serialize() * 1_000
    if not read:
        assert send_until_closed(victim.address, pings, times=1_000) < 1_000
        return
    with RawConnection(victim.address) as connection:
        for _ in range(1_000):
            connection.send_bytes(pings)
            if connection.closed:
                break
        connection.until_closed()


def test_settings_flood(victim: RunningServer) -> None:
    assert send_until_closed(victim.address, SettingsFrame(0, {4: 65_535}).serialize() * 1_000, times=1_000) < 1_000


def test_a_flood_of_calls_whose_errors_are_never_read(victim: RunningServer) -> None:
    with RawConnection(victim.address) as encoder:
        first, again = (headers(encoder.encoder, 1, "/no.Service/Method").data for _ in range(2))
    chunks = [raw(1, 5, 1, first)]
    for start in range(3, 4_000_003, 4_000):
        chunks.append(b"".join(raw(1, 5, stream, again) for stream in range(start, start + 4_000, 2)))
    assert send_until_closed(victim.address, *chunks, times=1) == 0


def test_empty_frames_flood(victim: RunningServer) -> None:
    with RawConnection(victim.address) as connection:
        connection.send(headers(connection.encoder, 1, STREAM))
        for _ in range(1_000):
            connection.send_bytes(DataFrame(1).serialize() * 1_000)
            if connection.closed:
                break
        connection.until_closed()


def test_priority_flood(victim: RunningServer) -> None:
    frame = PriorityFrame(1, depends_on=3, stream_weight=5).serialize()
    assert send_until_closed(victim.address, frame * 1_000, times=1_000) < 1_000


def test_a_client_whose_windows_stay_shut(victim: RunningServer) -> None:
    with RawConnection(victim.address, {SettingsFrame.INITIAL_WINDOW_SIZE: 0}) as connection:
        for stream in range(1, 201, 2):
            connection.call(stream, ECHO, prefixed(bytes(1_000)))
        connection.ping()
        assert all(answer.data == b"" for answer in connection.answers.values())
        connection.send(window(7, 2_000), window(0, 2_000))
        assert connection.answer(7).data == prefixed(bytes(1_000))


def test_windows_in_tiny_steps(victim: RunningServer) -> None:
    with RawConnection(victim.address, {SettingsFrame.INITIAL_WINDOW_SIZE: 0}) as connection:
        connection.call(1, ECHO, prefixed(b"hello"))
        for _ in range(30):
            connection.send(window(1, 1))
        assert connection.answer(1).data == prefixed(b"hello")


def test_a_window_that_shrinks_below_zero(victim: RunningServer) -> None:
    with RawConnection(victim.address) as connection:
        connection.send(headers(connection.encoder, 1, STREAM), body(1, prefixed(bytes(60_000))))
        connection.until(lambda: 1 in connection.answers and len(connection.answers[1].data) == 60_005)
        connection.send(SettingsFrame(0, {SettingsFrame.INITIAL_WINDOW_SIZE: 1_000}))
        connection.send(body(1, prefixed(bytes(995)), ended=True), window(1, 61_000))
        assert len(connection.answer(1).data) == 61_005


@dataclass(frozen=True)
class Offence:
    """What breaks HTTP/2.

    Attributes:
        name: What it is.
        frames: The bytes, given the connection.
        code: The error that ends the connection; None if only a call is reset.
    """

    name: str
    frames: Callable[[RawConnection], bytes]
    code: int | None


def _call(connection: RawConnection, stream: int = 1, /, **changed: str | None) -> bytes:
    return headers(connection.encoder, stream, STREAM, ended=False, **changed).serialize()


OFFENCES = [
    Offence("data on stream 0", lambda _: raw(0, 0, 0, b"x"), 1),
    Offence("data on a call that never began", lambda _: raw(0, 0, 5, b"x"), 1),
    Offence("headers on stream 0", lambda _: raw(1, 4, 0, b"\x83"), 1),
    Offence("an even stream", lambda connection: _call(connection, 2), 1),
    Offence("a window step of 0 on the connection", lambda _: raw(8, 0, 0, bytes(4)), 1),
    Offence("a window that overflows", lambda _: window(0, 2**31 - 1).serialize() * 2, 3),
    Offence("a ping of 7 bytes", lambda _: raw(6, 0, 0, bytes(7)), 6),
    Offence("settings of 5 bytes", lambda _: raw(4, 0, 0, bytes(5)), 6),
    Offence("an initial window beyond the maximum", lambda _: raw(4, 0, 0, struct.pack(">HI", 4, 2**31)), 3),
    Offence("a frame size beyond the maximum", lambda _: raw(4, 0, 0, struct.pack(">HI", 5, 2**24)), 1),
    Offence("a frame that is too large", lambda connection: _call(connection) + raw(0, 0, 1, bytes(300_000)), 6),
    Offence("a push", lambda _: raw(5, 4, 1, b"\0\0\0\2\x83"), 1),
    Offence("a reset of a call that never began", lambda _: raw(3, 0, 7, bytes(4)), 1),
    Offence("headers that are no HPACK", lambda _: raw(1, 4, 1, b"\xff\xff\xff\xff\xff"), 9),
    Offence("headers between headers", lambda _: raw(1, 0, 1, b"\x83") + raw(1, 4, 3, b"\x83"), 1),
    Offence("a continuation of nothing", lambda _: raw(9, 4, 1, b"\x83"), 1),
    Offence(
        "data after the end",
        lambda connection: headers(connection.encoder, 1, SLEEP, ended=True).serialize() + raw(0, 0, 1, b"x"),
        5,
    ),
    Offence("padding longer than the frame", lambda connection: _call(connection) + raw(0, 8, 1, b"\xff"), 1),
    Offence("a window step of 0 on a call", lambda connection: _call(connection) + raw(8, 0, 1, bytes(4)), 1),
    Offence(
        "a length that lies", lambda connection: _call(connection, content_length="3") + raw(0, 1, 1, b"12345"), None
    ),
    Offence("no path", lambda connection: _call(connection, _path=None), None),
    Offence("no method", lambda connection: _call(connection, _method=None), None),
    Offence("capitals in a field", lambda connection: _call(connection, UPPER="x"), None),
    Offence("a connection field", lambda connection: _call(connection, connection="close"), None),
]


@pytest.mark.parametrize("offence", OFFENCES, ids=lambda offence: offence.name)
def test_offences_end_a_connection_or_a_call(victim: RunningServer, offence: Offence) -> None:
    with RawConnection(victim.address) as connection:
        connection.send_bytes(offence.frames(connection))
        if offence.code is None:
            assert connection.answer(1).reset in {1, 3}
            connection.call(3, ECHO, prefixed(b"next"))
            assert connection.answer(3).data == prefixed(b"next")
        else:
            connection.until_closed()
            assert connection.go_away == offence.code


def test_unknown_frames_settings_and_flags_are_ignored(victim: RunningServer) -> None:
    with RawConnection(victim.address) as connection:
        connection.call(7, ECHO, prefixed(b"x"))
        connection.call(5, ECHO, prefixed(b"not in order"))
        assert connection.answer(7).data == prefixed(b"x")
        connection.send_bytes(raw(0xEE, 0xFF, 0, b"what") + raw(4, 0, 0, struct.pack(">HI", 0x7777, 1)))
        connection.send_bytes(raw(6, 0xFE, 0, bytes(8)))
        connection.call(9, ECHO, prefixed(b"x"))
        assert connection.answer(9).data == prefixed(b"x")
        assert 5 not in connection.answers


def test_a_client_that_goes_away_gets_its_answers(victim: RunningServer) -> None:
    with RawConnection(victim.address) as connection:
        connection.send(headers(connection.encoder, 1, STREAM), body(1, prefixed(b"x")), GoAwayFrame(0, 0))
        connection.send(body(1, prefixed(b"y"), ended=True))
        assert connection.answer(1).data == prefixed(b"x") + prefixed(b"y")
        connection.until_closed()


@pytest.mark.parametrize("sent", [b"", PREFACE[:10], PREFACE, PREFACE + b"\0\0\0\4"])
def test_half_a_greeting_is_not_waited_for(our_kind: Kind, sent: bytes) -> None:
    with running(our_kind, Options(limits=Limits(greeting_seconds=0.3))) as server:
        with RawConnection(server.address, None) as connection:
            connection.send_bytes(sent)
            connection.until_closed(TIMEOUT)
        with RawConnection(server.address) as connection:
            connection.ping()


def test_a_bomb_of_compressed_messages_is_inflated_one_at_a_time(our_kind: Kind) -> None:
    limits = Limits(max_receive_message_bytes=4_000_000, max_call_unsent_bytes=65_536)
    bomb = prefixed(zlib.compress(bytes(4_000_000)), 1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with (
        running(our_kind, Options(limits=limits)) as server,
        RawConnection(server.address, {SettingsFrame.INITIAL_WINDOW_SIZE: 0}) as connection,
    ):
        connection.send(headers(connection.encoder, 1, STREAM, grpc_encoding="deflate"))
        for _ in range(200):
            connection.send(body(1, bomb))
        connection.ping()
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < GREW_BYTES


def test_windows_are_given_back_for_calls_that_nobody_reads(victim: RunningServer) -> None:
    """Also for what comes after a call has ended: else each such call would narrow its connection."""
    with RawConnection(victim.address) as connection:
        sent = 0
        for stream in range(1, 2 * 2_000, 2):
            connection.send(headers(connection.encoder, stream, "/no.Service/Method"))
            connection.send(*(body(stream, bytes(16_000)) for _ in range(3)), RstStreamFrame(stream, 8))
            sent += 48_000
            if stream % 100 == 1:
                connection.ping()
        given = sum(
            frame.window_increment
            for frame in connection.frames
            if isinstance(frame, WindowUpdateFrame) and frame.stream_id == 0
        )
        assert sent > 64 * 1024 * 1024
        assert given >= sent - 64 * 1024 * 1024
        connection.call(9_999, ECHO, prefixed(b"x"))
        assert connection.answer(9_999).data == prefixed(b"x")
