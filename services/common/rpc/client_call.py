"""One call of a client, from its beginning to its status. Everything happens in the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from services.common.rpc.compression import read_encoding
from services.common.rpc.errors import CallError, ConnectionLostError
from services.common.rpc.events import ErrorCode
from services.common.rpc.http2 import Http2
from services.common.rpc.limits import Limits
from services.common.rpc.messages import MessageCutter
from services.common.rpc.wire import Field, Status, decode_metadata, is_grpc, prefixed, read_status

_OF_RESETS: dict[int, Status] = {
    ErrorCode.REFUSED_STREAM: Status.UNAVAILABLE,
    ErrorCode.CANCEL: Status.CANCELLED,
    ErrorCode.ENHANCE_YOUR_CALM: Status.RESOURCE_EXHAUSTED,
}
_OF_HTTP = {
    b"400": Status.INTERNAL,
    b"401": Status.UNAUTHENTICATED,
    b"403": Status.PERMISSION_DENIED,
    b"404": Status.UNIMPLEMENTED,
    b"429": Status.UNAVAILABLE,
    b"502": Status.UNAVAILABLE,
    b"503": Status.UNAVAILABLE,
    b"504": Status.UNAVAILABLE,
}


class ClientCarrier(Protocol):
    """A connection, as its calls see it.

    Attributes:
        limits: What the server may send.
        http2: Sends what they ask.
        calls: By stream: told what comes; a call puts itself here.
        full: Those that wait for room, told whenever something was sent.
    """

    limits: Limits
    http2: Http2
    calls: dict[int, ClientCall]
    full: set[ClientCall]

    def flush_soon(self) -> None:
        """Sends what there is, soon."""

    def flush(self) -> None:
        """Sends what there is."""


class ClientCall:
    """One call; what comes is told to `message` and `ended`, which derived classes define.

    Attributes:
        initial: Header fields of the response.
        trailing: Header fields that ended it.
        error: Why the call has failed; None while it runs, and if it has ended well.
        done: Whether it has ended.
        refused: Whether the server has not looked at it, so that it can be made again.
    """

    def __init__(self, connection: ClientCarrier) -> None:
        self.initial: tuple[Field, ...] = ()
        self.trailing: tuple[Field, ...] = ()
        self.error: CallError | None = None
        self.done = False
        self.refused = False
        self._connection = connection
        self._cutter = MessageCutter(connection.limits.max_receive_message_bytes)
        self._stream = 0
        self._half_closed = False
        self._unread = 0
        self._timer: asyncio.TimerHandle | None = None

    def message(self, message: bytes) -> None:
        """One message has come whole."""

    def ended(self) -> None:
        """The call has ended; `error` says how."""

    def flushed(self) -> None:
        """Something was sent; there may be room."""

    def begin(self, fields: Sequence[Field], timeout: float | None) -> None:
        """Sends the header fields.

        Raises:
            CallError: UNAVAILABLE, if the connection takes no more calls.
        """
        connection = self._connection
        try:
            self._stream = connection.http2.request(fields)
        except ConnectionLostError as error:
            raise CallError(Status.UNAVAILABLE, str(error)) from error
        connection.calls[self._stream] = self
        connection.flush_soon()
        if timeout is not None:
            self._timer = asyncio.get_running_loop().call_later(timeout, self._expire)

    def send(self, message: bytes, *, last: bool = False) -> None:
        """Sends a message; it is kept until the server takes it. Does nothing once the call is done."""
        self._connection.http2.send(self._stream, prefixed(message), ended=last)
        self._half_closed = last
        self._connection.flush_soon()

    def send_now(self, message: bytes) -> None:
        """Sends a message before the loop does anything else: it may be about to compute for long."""
        self._connection.http2.send(self._stream, prefixed(message))
        self._connection.flush()

    def half_close(self) -> None:
        """Says that no more messages come."""
        self._connection.http2.send(self._stream, b"", ended=True)
        self._half_closed = True
        self._connection.flush_soon()

    def cancel(self, status: Status = Status.CANCELLED, message: str = "cancelled by the client") -> None:
        """Ends the call here, and tells the server."""
        if not self.done:
            self._reset(ErrorCode.CANCEL)
            self._end(CallError(status, message))

    def responded(self, fields: tuple[Field, ...], *, ended: bool) -> None:
        """The response begins."""
        self.initial = fields
        known = dict(fields)
        if known.get(b":status") != b"200" or not is_grpc(known.get(b"content-type")):
            status = known.get(b":status", b"")
            self._reset(ErrorCode.CANCEL)
            self._end(
                CallError(_OF_HTTP.get(status, Status.UNKNOWN), f"expected an answer of gRPC, got HTTP {status!r}")
            )
        elif ended:
            self.trailed(fields)
        elif b"grpc-encoding" in known:
            try:
                encoding = read_encoding(known[b"grpc-encoding"])
            except CallError as error:
                self.cancel(Status.INTERNAL, error.message)
            else:
                self._cutter = MessageCutter(self._connection.limits.max_receive_message_bytes, encoding)

    def take(self, data: bytes, *, ended: bool) -> None:
        """A part of the answers has come."""
        self._unread += len(data)
        if not self.done:
            self._cutter.feed(data)
            self.deliver()
            if ended:
                self.trailed(())
        self.acknowledge()

    def trailed(self, fields: tuple[Field, ...]) -> None:
        """The call has ended with a status."""
        self.trailing = fields
        if not self._half_closed:
            self._reset(ErrorCode.NO_ERROR)
        status, message = read_status(fields)
        self._end(None if status is Status.OK else CallError(status, message, decode_metadata(fields)))

    def close(self, code: int) -> None:
        """The stream is gone."""
        self.refused = not self.done and code == ErrorCode.REFUSED_STREAM
        self._end(CallError(_OF_RESETS.get(code, Status.INTERNAL), f"the server has reset the call with code {code}"))
        self.acknowledge()

    def lost(self, error: Exception | None) -> None:
        """The connection is gone."""
        self._end(CallError(Status.UNAVAILABLE, f"the connection was lost: {error or 'the server has closed it'}"))

    def deliver(self) -> None:
        """Tells of the messages that are whole."""
        try:
            while not self.done and (message := self._cutter.next()) is not None:
                self.message(message)
        except CallError as error:
            self.cancel(error.status, f"CLIENT: {error.message}")

    def acknowledge(self) -> None:
        """Lets the server send more."""
        if self._unread:
            self._connection.http2.acknowledge(self._stream, self._unread)
            self._unread = 0

    def _expire(self) -> None:
        self.cancel(Status.DEADLINE_EXCEEDED, "Deadline Exceeded")

    def _reset(self, code: ErrorCode) -> None:
        self._connection.http2.reset(self._stream, code)
        self._connection.flush_soon()

    def _end(self, error: CallError | None) -> None:
        if self.done:
            return
        self.done = True
        self.error = error
        if self._timer is not None:
            self._timer.cancel()
        self.ended()
