"""Cuts the bytes of a call into messages, wherever the frames end."""

from __future__ import annotations

from services.common.rpc.compression import Encoding, decompress
from services.common.rpc.errors import CallError
from services.common.rpc.wire import PREFIX, Status

_PREFIX_BYTES = PREFIX.size


def only_message(data: bytes, limit: int) -> bytes | None:
    """Gives the message if the data are exactly one, uncompressed and within the limit, as they mostly are."""
    if len(data) < _PREFIX_BYTES:
        return None
    compressed, length = PREFIX.unpack_from(data)
    return None if compressed or length > limit or length + _PREFIX_BYTES != len(data) else data[_PREFIX_BYTES:]


class MessageCutter:
    """Cuts one direction of one call. What is not asked for stays as it came, compressed if it is.

    Args:
        limit: Largest message in bytes, as sent and as it decompresses to.
        encoding: What compressed messages are compressed with.
    """

    __slots__ = ("_buffer", "_encoding", "_limit", "_start")

    def __init__(self, limit: int, encoding: Encoding = "identity") -> None:
        self._limit = limit
        self._encoding = encoding
        # A frame as it came, or what has piled up where a message spans frames; what lies before the start is done.
        self._buffer: bytes | bytearray = b""
        self._start = 0

    @property
    def held(self) -> int:
        """Bytes that have come and were not asked for."""
        return len(self._buffer) - self._start

    def feed(self, data: bytes) -> None:
        """Takes bytes."""
        if self._start == len(self._buffer):
            self._buffer = data
        else:
            if not isinstance(self._buffer, bytearray):
                self._buffer = bytearray(self._buffer)
            del self._buffer[: self._start]
            self._buffer += data
        self._start = 0

    def next(self) -> bytes | None:
        """Gives the next message, decompressed; None if it has not come whole.

        Raises:
            CallError: If it is larger than the limit, by its prefix or once decompressed, or is compressed in another
                way than the call said. The cutter is of no use afterwards.
        """
        buffer, start = self._buffer, self._start
        size = len(buffer)
        if size - start < _PREFIX_BYTES:
            return None
        compressed, length = PREFIX.unpack_from(buffer, start)
        if length > self._limit:
            raise CallError(
                Status.RESOURCE_EXHAUSTED, f"expected a message of at most {self._limit} bytes, got one of {length}"
            )
        if compressed > 1:
            raise CallError(Status.INTERNAL, f"expected a message flag of 0 or 1, got {compressed}")
        end = start + _PREFIX_BYTES + length
        if end > size:
            return None
        self._start = end
        message = buffer[start + _PREFIX_BYTES : end]
        if not isinstance(message, bytes):
            message = bytes(message)
        return decompress(message, self._encoding, self._limit) if compressed else message
