"""Who sends without reading is not read from; who is slow holds up nobody else; and what waits is bounded."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import grpc
import pytest
from hyperframe.frame import SettingsFrame, WindowUpdateFrame

from services.common.rpc import Limits, Status
from tests.integration.services.common.rpc.calls import TIMEOUT, stream_unary, unary, unary_stream
from tests.integration.services.common.rpc.frames import PREFACE, RawConnection, body, headers, prefixed, window
from tests.integration.services.common.rpc.servers import (
    COLLECT,
    ECHO,
    REPEAT,
    STREAM,
    Kind,
    Options,
    RunningServer,
    running,
)

pytestmark = pytest.mark.integration

_INITIAL_WINDOW_SIZE = SettingsFrame.INITIAL_WINDOW_SIZE
MESSAGE = prefixed(bytes(995))


class Upload:
    """Sends messages on one stream as its window allows.

    Args:
        connection: The connection.
        stream: The stream; its call has begun.
        window_bytes: The window that it began with.
    """

    def __init__(self, connection: RawConnection, stream: int, window_bytes: int) -> None:
        self.sent = 0
        self._connection = connection
        self._stream = stream
        self._window_bytes = window_bytes

    def fill(self) -> int:
        """Sends until the server, having handled all of it, gives no window back; tells how many bytes there are."""
        while True:
            given = sum(
                frame.window_increment
                for frame in self._connection.frames
                if isinstance(frame, WindowUpdateFrame) and frame.stream_id == self._stream
            )
            count = (self._window_bytes + given - self.sent) // len(MESSAGE)
            if not count:
                return self.sent
            for _ in range(min(count, 16)):
                self._connection.send(body(self._stream, MESSAGE))
                self.sent += len(MESSAGE)
            self._connection.ping()


def test_a_stream_that_is_not_read_from_is_read_no_further(our_kind: Kind) -> None:
    limits = Limits(call_window_bytes=65_535, max_call_unsent_bytes=100_000)
    with (
        running(our_kind, Options(limits=limits)) as server,
        RawConnection(server.address, {_INITIAL_WINDOW_SIZE: 0}) as connection,
    ):
        connection.send(headers(connection.encoder, 1, STREAM))
        upload = Upload(connection, 1, limits.call_window_bytes)
        sent = upload.fill()
        # What may wait to be sent, what may wait to be read, and what is read ahead.
        assert 100_000 <= sent < 100_000 + 2 * 65_535 + 300_000
        connection.call(3, ECHO, prefixed(b""))
        connection.send(window(3, 1000))
        assert connection.answer(3).status == 0

        connection.send(window(1, 2**30), window(0, 2**30), body(1, b"", ended=True))
        assert len(connection.answer(1).data) == sent


def test_a_slow_handler_holds_up_no_other_call_of_its_connection(our_kind: Kind) -> None:
    limits = Limits(call_window_bytes=65_535)
    with running(our_kind, Options(limits=limits)) as server, RawConnection(server.address) as connection:
        for stream in (1, 3, 5):
            connection.send(headers(connection.encoder, stream, COLLECT))
            Upload(connection, stream, limits.call_window_bytes).fill()
        for stream in range(7, 7 + 2 * 50, 2):
            connection.send(headers(connection.encoder, stream, ECHO))
            for start in range(0, 60_000, 15_000):
                last = start == 45_000
                part = prefixed(bytes(15_000 - 5), length=60_000 - 5) if not start else bytes(15_000)
                connection.send(body(stream, part, ended=last))
            connection.send(window(0, 100_000))
            assert connection.answer(stream).status == 0


def test_a_slow_handler_holds_its_client_back_and_then_gets_everything(server: RunningServer) -> None:
    taken = threading.Semaphore(0)

    def requests() -> Iterator[bytes]:
        for _ in range(400):
            taken.release()
            yield bytes(100_000)

    with grpc.insecure_channel(server.address) as channel:
        call = stream_unary(channel, COLLECT).future(requests(), timeout=60)
        count = 0
        while taken.acquire(timeout=1):
            count += 1
        assert 0 < count < 200
        server.seen.may_read.set()
        assert call.result() == b"400 40000000"


def test_a_handler_that_writes_waits_for_a_client_that_does_not_read(server: RunningServer) -> None:
    with grpc.insecure_channel(server.address) as channel:
        answers = unary_stream(channel, REPEAT)(b"2000 50000", timeout=60)
        assert len(next(answers)) == 50_000
        before = -1
        while server.seen.collected != before:
            before = server.seen.collected
            unary(channel, ECHO)(b"x", timeout=TIMEOUT)
            with server.seen.changed:
                server.seen.changed.wait(0.5)
        assert before < 1000
        assert sum(len(answer) for answer in answers) == 1999 * 50_000


def parts_of(message: bytes) -> list[bytes]:
    """A message in frames."""
    return [message[start : start + 16_000] for start in range(0, len(message), 16_000)]


def test_answers_that_are_not_taken_keep_new_calls_waiting() -> None:
    """Where answers are there before the next call begins."""
    limits = Limits(max_unsent_bytes=1_000_000, max_metadata_bytes=4096)
    with (
        running("direct", Options(limits=limits)) as server,
        RawConnection(server.address, {_INITIAL_WINDOW_SIZE: 0}) as connection,
    ):
        message = prefixed(bytes(100_000))
        for stream in range(1, 40, 2):
            connection.call(stream, ECHO, *parts_of(message))
        connection.ping()
        # Their headers have come; those who wait have got nothing.
        begun = [stream for stream, answer in connection.answers.items() if answer.blocks]
        assert 2 <= len(begun) <= 4
        connection.send(SettingsFrame(0, {_INITIAL_WINDOW_SIZE: 2**31 - 1}), window(0, 2**30))
        for stream in range(1, 40, 2):
            assert connection.answer(stream).data == message


def test_answers_beyond_what_may_wait_end_their_calls(our_kind: Kind) -> None:
    limits = Limits(max_unsent_bytes=1_000_000)
    with (
        running(our_kind, Options(limits=limits)) as server,
        RawConnection(server.address, {_INITIAL_WINDOW_SIZE: 0}) as connection,
        grpc.insecure_channel(server.address) as neighbour,
    ):
        streams = range(1, 60, 2)
        connection.send(*(headers(connection.encoder, stream, ECHO) for stream in streams))
        connection.ping()
        message = prefixed(bytes(100_000))
        for stream in streams:
            parts = parts_of(message)
            connection.send(*(body(stream, part, ended=part is parts[-1]) for part in parts))
        connection.ping()
        connection.send(SettingsFrame(0, {_INITIAL_WINDOW_SIZE: 2**31 - 1}), window(0, 2**30))
        statuses = [connection.answer(stream).status for stream in streams]
        assert 10 <= statuses.count(0) <= 12
        assert statuses.count(Status.RESOURCE_EXHAUSTED) == len(statuses) - statuses.count(0)
        assert unary(neighbour, ECHO)(b"x", timeout=TIMEOUT) == b"x"


def test_a_client_that_does_not_read_its_socket_is_read_no_further(our_server: RunningServer) -> None:
    host, _, port = our_server.address.rpartition(":")
    with socket.create_connection((host, int(port))) as connection, RawConnection(our_server.address) as encoder:
        connection.sendall(PREFACE + SettingsFrame(0, {_INITIAL_WINDOW_SIZE: 2**31 - 1}).serialize())
        connection.sendall(window(0, 2**30).serialize())
        connection.settimeout(1)
        message = prefixed(bytes(16_000))
        sent = 0
        with contextlib.suppress(TimeoutError):
            for stream in range(1, 20_000, 2):
                head = headers(encoder.encoder, stream, ECHO).serialize()
                connection.sendall(head + body(stream, message, ended=True).serialize())
                sent += len(message)
        # Sockets hold a few MB.
        assert sent < 50_000_000
        with grpc.insecure_channel(our_server.address) as channel:
            assert unary(channel, ECHO)(b"x", timeout=TIMEOUT) == b"x"
