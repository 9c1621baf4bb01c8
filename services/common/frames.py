"""Messages as frames over a socket: what gateways and replicas speak with each other.

Each side first sends a greeting that names the protocol and its version. Then every message follows as its length, four
bytes, the lowest first, and its bytes. That is all: a message costs one write and one read, a quarter of what a gRPC
stream takes for it (docs/performance.md), and of what gRPC has besides, this one link needs little.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from typing import cast

from steersman.errors import InvalidArgumentError, SteersmanError

_log = logging.getLogger(__name__)

VERSION = 1
"""Version of what the frames of this link carry. To be raised when the meaning or the order of messages changes."""

_MAGIC = b"steersman link "
_GREETING_BYTES = len(_MAGIC) + 1
_LENGTH = struct.Struct("<I")

_MOST_UNSENT_BYTES = 1024 * 1024
"""What a side may still have to send before it is told to pause."""


def greeting(version: int = VERSION) -> bytes:
    """Gives what each side sends first."""
    return _MAGIC + bytes([version])


def frame(message: bytes) -> bytes:
    """Gives a message as it is sent."""
    return _LENGTH.pack(len(message)) + message


class FrameReader:
    """Cuts the bytes that came from the other side into messages, however the network has split or joined them.

    Args:
        max_message_bytes: The largest message.
    """

    def __init__(self, max_message_bytes: int) -> None:
        self._max_message_bytes = max_message_bytes
        self._buffer = bytearray()
        self._greeted = False

    def feed(self, data: bytes) -> list[bytes]:
        """Takes in what came and gives the messages that are complete now, in order.

        Args:
            data: Bytes as they came.

        Raises:
            InvalidArgumentError: If the other side does not speak the same, or a message is too large. Nothing that
                follows can be understood.
        """
        self._buffer += data
        if not self._greeted and not self._take_greeting():
            return []
        buffer = self._buffer
        messages = []
        start = 0
        with memoryview(buffer) as view:
            while len(buffer) - start >= _LENGTH.size:
                (length,) = _LENGTH.unpack_from(buffer, start)
                if length > self._max_message_bytes:
                    raise InvalidArgumentError(
                        f"expected a message of at most {self._max_message_bytes} bytes, got one of {length}"
                    )
                end = start + _LENGTH.size + length
                if len(buffer) < end:
                    break
                # Sliced as a view, so that a large message is copied once.
                messages.append(bytes(view[start + _LENGTH.size : end]))
                start = end
        del buffer[:start]
        return messages

    def _take_greeting(self) -> bool:
        """Takes the greeting off the buffer, and tells whether it was complete."""
        got = bytes(self._buffer[:_GREETING_BYTES])
        if not got.startswith(_MAGIC[: len(got)]):
            raise InvalidArgumentError(f"expected a greeting of Steersman's, got {got!r}")
        if len(got) < _GREETING_BYTES:
            return False
        if got[-1] != VERSION:
            raise InvalidArgumentError(
                f"expected version {VERSION} of the link between gateways and replicas, got version {got[-1]}; "
                "run the same version of Steersman on both sides"
            )
        del self._buffer[:_GREETING_BYTES]
        self._greeted = True
        return True


class FrameProtocol(asyncio.Protocol):
    """One side of a connection that carries frames. Everything happens in the event loop; no method blocks.

    A side derives its own class from this and fills in what happens; a `SteersmanError` that `message_received` raises
    ends the connection and is logged, as do bytes that are no frames. No other connection is concerned.

    Args:
        max_message_bytes: The largest message that is taken.

    Attributes:
        peer: The other side, for logs.
    """

    peer = "a stranger"

    def __init__(self, max_message_bytes: int) -> None:
        self._max_message_bytes = max_message_bytes
        self._reader = FrameReader(max_message_bytes)
        self._transport: asyncio.Transport | None = None

    def message_received(self, message: bytes) -> None:
        """Called for each message, in order."""
        raise NotImplementedError

    def closed(self) -> None:
        """Called once, when the connection is gone, for whatever reason."""

    def send(self, message: bytes) -> None:
        """Sends a message, or keeps what the socket does not take; if that is much, `pause_writing` is called.

        Once the connection is closing, the message is dropped.
        """
        if self._transport is not None and not self._transport.is_closing():
            self._transport.writelines((_LENGTH.pack(len(message)), message))

    @property
    def is_closing(self) -> bool:
        """Whether nobody reads any more what is sent; `closed` is called soon, or was."""
        return self._transport is None or self._transport.is_closing()

    def close(self) -> None:
        """Ends the connection when everything is sent."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Ends the connection now."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greets."""
        # Stream sockets have no other, but uvloop's does not derive from asyncio's.
        stream = self._transport = cast("asyncio.Transport", transport)
        # So that of what the other side does not read, no more than about one message is kept here.
        stream.set_write_buffer_limits(high=min(self._max_message_bytes, _MOST_UNSENT_BYTES))
        stream.write(greeting())

    def data_received(self, data: bytes) -> None:
        """Hands on the messages that are complete."""
        try:
            for message in self._reader.feed(data):
                self.message_received(message)
        except SteersmanError as error:
            _log.warning("closing the connection to %s: %s", self.peer, error)
            self.abort()
        except Exception:  # noqa: BLE001 - the last resort of a connection
            _log.exception("closing the connection to %s, which failed unexpectedly", self.peer)
            self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        """Says so."""
        if error is not None:
            _log.debug("the connection to %s broke: %s", self.peer, error)
        self.closed()
