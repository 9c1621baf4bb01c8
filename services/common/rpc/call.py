"""One call on a server: what its handler knows of it, and answers. Everything happens in the event loop."""

from __future__ import annotations

from collections.abc import Callable

from services.common.rpc.carrier import Carrier
from services.common.rpc.compression import Encoding, compress
from services.common.rpc.ending import RESPONSE_HEADERS, Ending
from services.common.rpc.errors import CallError
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


class Call(Ending):
    """One call.

    Attributes:
        encoding: What answers are compressed with; to be set before the first.
        on_cancel: Called when the answer is not wanted any more; for handlers of one request, which have no receiver.
    """

    __slots__ = ("_unsent", "encoding", "on_cancel")

    def __init__(self, connection: Carrier, stream: int, path: bytes, fields: tuple[Field, ...]) -> None:
        super().__init__(connection, stream, path, fields)
        self.encoding: Encoding = "identity"
        self.on_cancel: Callable[[], None] | None = None
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
        fields = (*RESPONSE_HEADERS, *encode_metadata(metadata)) if metadata else RESPONSE_HEADERS
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
                self.connection.http2.answer(self.stream, RESPONSE_HEADERS, prefixed(message), fields)
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

    def _refuses(self, message: bytes) -> bool:
        """Ends the call if an answer is too large, or comes on top of too much that the client does not take."""
        room = self.connection.room
        if len(message) + self._unsent <= room.small_bytes or (refusal := room.refusal(len(message))) is None:
            return False
        self.abandon(CallError(Status.RESOURCE_EXHAUSTED, refusal))
        return True
