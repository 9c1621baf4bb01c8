"""One call on a server: what its handler knows of it, and answers. Everything happens in the event loop."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from services.common.rpc.compression import ACCEPTED, Encoding, compress
from services.common.rpc.errors import CallError
from services.common.rpc.events import ErrorCode
from services.common.rpc.incoming import Incoming
from services.common.rpc.receiver import Hold
from services.common.rpc.states import CallState, transition
from services.common.rpc.wire import (
    OK_TRAILERS,
    Field,
    Metadata,
    Status,
    encode_metadata,
    prefixed,
    status_trailers,
)

if TYPE_CHECKING:
    from services.common.rpc.connection import ServerConnection

_log = logging.getLogger(__name__)

_HEADERS: tuple[Field, ...] = (
    (b":status", b"200"),
    (b"content-type", b"application/grpc"),
    (b"grpc-accept-encoding", ACCEPTED),
)


class Call(Incoming):
    """One call.

    Attributes:
        encoding: What answers are compressed with; to be set before the first.
        on_cancel: Called when the answer is not wanted any more; for handlers of one request, which have no receiver.
        ended_at: Seconds of `time.monotonic` when it was ended before the client had half-closed; infinite otherwise.
    """

    __slots__ = ("_unsent", "encoding", "ended_at", "on_cancel")

    def __init__(self, connection: ServerConnection, stream: int, path: bytes, fields: tuple[Field, ...]) -> None:
        super().__init__(connection, stream, path, fields)
        self.encoding: Encoding = "identity"
        self.on_cancel: Callable[[], None] | None = None
        self.ended_at = math.inf
        self._unsent = 0

    @property
    def cancelled(self) -> bool:
        """Whether the answer is not wanted any more."""
        return self.state is CallState.CANCELLED

    @property
    def full(self) -> bool:
        """Whether so much waits to be sent that the handler should wait for `Receiver.room`."""
        return bool(self._holds & Hold.ROOM)

    def start(self, metadata: Metadata = ()) -> None:
        """Sends initial metadata; without this they leave, empty, with the first message.

        Raises:
            ValueError: If the metadata cannot be sent.
            StateError: If they were sent before.
        """
        fields = (*_HEADERS, *encode_metadata(metadata)) if metadata else _HEADERS
        if self.encoding != "identity":
            fields = (*fields, (b"grpc-encoding", self.encoding.encode()))
        if self.state is CallState.CANCELLED:
            return
        self.state = transition(self.state, CallState.ANSWERING)
        self.connection.http2.respond(self.stream, fields)
        self.connection.flush_soon()

    def send(self, message: bytes, *, compressed: bool = True) -> None:
        """Sends a message. It is kept until the client takes it; see `full`.

        One that is larger than what is sent, or for which there is no room left, ends the call instead.

        Args:
            message: The message.
            compressed: Whether to compress it, if the call has an encoding.

        Raises:
            StateError: If the call is done.
        """
        if self.state is not CallState.ANSWERING:
            if self.state is CallState.CANCELLED:
                return
            self.start()
        compressed = compressed and self.encoding != "identity"
        data = compress(message, self.encoding) if compressed else message
        if self._refuses(data):
            return
        connection = self.connection
        connection.http2.send(self.stream, prefixed(data, compressed=compressed))
        connection.flush_soon()
        self._unsent += len(data)
        if self._unsent > connection.limits.max_call_unsent_bytes:
            self._unsent = connection.http2.unsent(self.stream)
            if self._unsent > connection.limits.max_call_unsent_bytes:
                connection.room.fill(self)

    def finish(self, message: bytes | None = None, trailing: Metadata = ()) -> None:
        """Ends the call well, unless `send` says otherwise of the message.

        Args:
            message: The answer, or the last one, if there is one.
            trailing: Trailing metadata.

        Raises:
            ValueError: If the metadata cannot be sent.
            StateError: If the call is done.
        """
        fields = status_trailers(Status.OK, "", trailing) if trailing else OK_TRAILERS
        if message is None:
            self._end(fields, CallState.DONE)
        elif self.state is CallState.OPEN and self.encoding == "identity":
            # Most calls: one answer, all at once.
            if not self._refuses(message):
                self.state = transition(CallState.OPEN, CallState.DONE)
                self.connection.http2.answer(self.stream, _HEADERS, prefixed(message), fields)
                self._ended()
        else:
            self.send(message)
            self._end(fields, CallState.DONE)

    def fail(self, status: Status, message: str = "", trailing: Metadata = ()) -> None:
        """Ends the call with an error.

        Raises:
            ValueError: If the metadata cannot be sent.
            StateError: If the call is done.
        """
        self._end(status_trailers(status, message, trailing), CallState.DONE)

    def pause(self) -> None:
        """Delivers no more messages; what the client may still send is bounded by its window."""
        self.hold(Hold.HANDLER)

    def resume(self) -> None:
        """Delivers messages again, perhaps before this returns."""
        self.release(Hold.HANDLER)

    def make_room(self) -> None:
        """Tells the handler of room; called by the connection, as all that follows is."""
        self._holds &= ~Hold.ROOM
        try:
            if self._receiver is not None and self.state <= CallState.ANSWERING:
                self._receiver.room()
        except Exception as error:  # noqa: BLE001 - a handler's fault ends its call and nothing else
            self._raised(error)
        self._read_on()

    def abandon(self, error: CallError) -> None:
        """Ends the call for its handler, and with an error for its client; does nothing if it has ended before."""
        if self.state <= CallState.ANSWERING:
            self._end(status_trailers(error.status, error.message, error.trailing), CallState.CANCELLED)
            self._cancel_receiver()

    def expire(self) -> None:
        """Ends the call because its deadline has passed."""
        self.abandon(CallError(Status.DEADLINE_EXCEEDED, "Deadline Exceeded"))
        if self.connection.http2.unsent(self.stream):
            # The client would not see the status before it reads what waits, and that would be kept until then.
            self.reset()

    def reset(self) -> None:
        """Resets a call that is done, of which the client has not taken everything or not ended its own side."""
        http2 = self.connection.http2
        http2.reset(self.stream, ErrorCode.CANCEL if http2.unsent(self.stream) else ErrorCode.NO_ERROR)
        self.connection.flush_soon()
        self.ended_at = self.deadline = math.inf

    def close(self) -> None:
        """Ends the call because its stream or connection is gone."""
        self._acknowledge()
        if self._partial:
            self.connection.partial_bytes -= self._partial
        if self._holds:
            self.connection.room.leave(self)
        if self.state <= CallState.ANSWERING:
            self.state = transition(self.state, CallState.CANCELLED)
            self._cancel_receiver()
        # They know each other; without this only the garbage collector would find them.
        self._receiver = None

    def _refuses(self, message: bytes) -> bool:
        """Ends the call if an answer is too large, or comes on top of too much that the client does not take."""
        room = self.connection.room
        if len(message) + self._unsent <= room.small_bytes or (refusal := room.refusal(len(message))) is None:
            return False
        self.abandon(CallError(Status.RESOURCE_EXHAUSTED, refusal))
        return True

    def _end(self, fields: tuple[Field, ...], state: CallState) -> None:
        before = self.state
        if before is CallState.CANCELLED:
            return
        self.state = transition(before, state)
        if before is CallState.ANSWERING:
            self.connection.http2.send_trailers(self.stream, fields)
        else:
            self.connection.http2.respond(self.stream, (*_HEADERS, *fields), ended=True)
        self._ended()

    def _ended(self) -> None:
        self.connection.flush_soon()
        if not self.half_closed:
            self.ended_at = time.monotonic()

    def _cancel_receiver(self) -> None:
        if self._receiver is not None:
            try:
                self._receiver.cancel()
            except Exception:  # noqa: BLE001 - a handler's fault ends its call and nothing else
                _log.exception("a handler of %s failed when it was cancelled", self.path.decode(errors="replace"))
