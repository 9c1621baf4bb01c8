"""A client that sends any frames it likes, and tells what came back."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from hpack import Decoder, Encoder
from hyperframe.frame import (
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def prefixed(message: bytes, flag: int = 0, length: int | None = None) -> bytes:
    """A message with its prefix, which may lie."""
    return struct.pack(">BI", flag, len(message) if length is None else length) + message


def headers(
    encoder: Encoder, stream: int, path: str, *extra: tuple[str, str], ended: bool = False, **changed: str | None
) -> HeadersFrame:
    """The header fields of a call.

    Args:
        encoder: The connection's.
        stream: Its number.
        path: Its method.
        *extra: More fields.
        ended: Whether nothing follows.
        **changed: Fields that differ or are left out, with underscores for `:` in front and `-` within.
    """
    fields: dict[str, str | None] = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "test",
        "te": "trailers",
        "content-type": "application/grpc",
    }
    fields |= {
        (":" + name[1:] if name.startswith("_") else name).replace("_", "-"): value for name, value in changed.items()
    }
    frame = HeadersFrame(stream)
    frame.data = encoder.encode([*((name, value) for name, value in fields.items() if value is not None), *extra])
    frame.flags.add("END_HEADERS")
    if ended:
        frame.flags.add("END_STREAM")
    return frame


def body(stream: int, data: bytes, *, ended: bool = False) -> DataFrame:
    """A part of a request."""
    frame = DataFrame(stream, data)
    if ended:
        frame.flags.add("END_STREAM")
    return frame


@dataclass
class Answer:
    """What has come on a stream.

    Attributes:
        fields: Header fields and trailers together.
        blocks: How many blocks of them.
        data: The body.
        ended: Whether the server has ended it.
        reset: The code of a reset.
    """

    fields: dict[str, str] = field(default_factory=dict)
    blocks: int = 0
    data: bytes = b""
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> int | None:
        """The status of gRPC."""
        return int(self.fields["grpc-status"]) if "grpc-status" in self.fields else None


class RawConnection:
    """A connection on which nothing happens by itself but that settings are acknowledged.

    Args:
        address: Where the server listens: `host:port`.
        settings: What to tell the server at first; None says nothing at all, not even hello.

    Attributes:
        frames: All that came.
        answers: By stream.
        closed: Whether the server has closed.
    """

    def __init__(self, address: str, settings: dict[int, int] | None = {}) -> None:  # noqa: B006 - is not changed
        host, _, port = address.rpartition(":")
        self.encoder = Encoder()
        self.frames: list[Frame] = []
        self.answers: dict[int, Answer] = {}
        self.closed = False
        self._decoder = Decoder()
        self._buffer = b""
        self._socket = socket.create_connection((host.strip("[]"), int(port)))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if settings is not None:
            self.send_bytes(PREFACE)
            self.send(SettingsFrame(0, settings))
            # Its windows hold from then on.
            self.until(lambda: bool(self.of(SettingsFrame)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def send_bytes(self, data: bytes) -> None:
        """Sends bytes; a server that has closed may not get them."""
        try:
            self._socket.sendall(data)
        except (ConnectionResetError, BrokenPipeError):
            self.closed = True

    def send(self, *frames: Frame) -> None:
        """Sends frames together."""
        self.send_bytes(b"".join(frame.serialize() for frame in frames))

    def call(self, stream: int, path: str, *data: bytes, **changed: str | None) -> None:
        """Sends a whole call, each part of its body in a frame of its own."""
        parts = [body(stream, part, ended=index == len(data) - 1) for index, part in enumerate(data)]
        self.send(headers(self.encoder, stream, path, ended=not data, **changed), *parts)

    def until(self, condition: Callable[[], bool], timeout: float = 20) -> None:
        """Reads until a condition holds or the server closes.

        Raises:
            TimeoutError: If neither happens.
        """
        ends = time.monotonic() + timeout
        while not condition() and not self.closed:
            self._socket.settimeout(max(0.001, ends - time.monotonic()))
            try:
                data = self._socket.recv(65536)
            except ConnectionResetError:
                data = b""
            self._take(data)

    def answer(self, stream: int, timeout: float = 20) -> Answer:
        """Waits for the end of an answer."""
        answer = self.answers.setdefault(stream, Answer())
        self.until(lambda: answer.ended or answer.reset is not None, timeout)
        assert answer.ended or answer.reset is not None, "the server has closed"
        return answer

    def until_closed(self, timeout: float = 20) -> None:
        """Waits until the server closes."""
        self.until(lambda: False, timeout)

    def of(self, kind: type[Frame]) -> Sequence[Frame]:
        """Gives the frames of a kind that came."""
        return [frame for frame in self.frames if isinstance(frame, kind)]

    @property
    def goaways(self) -> Sequence[GoAwayFrame]:
        """The GOAWAY frames that came."""
        return [frame for frame in self.frames if isinstance(frame, GoAwayFrame)]

    @property
    def go_away(self) -> int | None:
        """The code of the last of them."""
        return self.goaways[-1].error_code if self.goaways else None

    def ping(self, timeout: float = 20) -> None:
        """Waits until the server has handled all that was sent before; every acknowledgement looks the same."""
        before = len(self._acknowledged())
        self.send(PingFrame(0, b"question"))
        self.until(lambda: len(self._acknowledged()) > before, timeout)
        assert not self.closed

    def _acknowledged(self) -> Sequence[Frame]:
        return [frame for frame in self.of(PingFrame) if "ACK" in frame.flags]

    def _take(self, data: bytes) -> None:
        self.closed = self.closed or not data
        self._buffer += data
        while len(self._buffer) >= 9:
            frame, length = Frame.parse_frame_header(memoryview(self._buffer)[:9])
            if len(self._buffer) < 9 + length:
                break
            frame.parse_body(memoryview(self._buffer)[9 : 9 + length])
            self._buffer = self._buffer[9 + length :]
            self.frames.append(frame)
            self._note(frame)

    def _note(self, frame: Frame) -> None:
        answer = self.answers.setdefault(frame.stream_id, Answer())
        if isinstance(frame, HeadersFrame):
            answer.blocks += 1
            for name, value in self._decoder.decode(frame.data):
                answer.fields[str(name)] = str(value)
        elif isinstance(frame, DataFrame):
            answer.data += frame.data
        elif isinstance(frame, RstStreamFrame):
            answer.reset = frame.error_code
        elif isinstance(frame, SettingsFrame) and "ACK" not in frame.flags:
            acknowledgement = SettingsFrame(0)
            acknowledgement.flags.add("ACK")
            self.send(acknowledgement)
        if "END_STREAM" in frame.flags:
            answer.ended = True


def window(stream: int, increment: int) -> WindowUpdateFrame:
    """Lets the server send more."""
    return WindowUpdateFrame(stream, increment)
