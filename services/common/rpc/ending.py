"""How a call on a server ends: with a status, by its deadline, or with its stream."""

from __future__ import annotations

import logging
import math
import time

from services.common.rpc.compression import ACCEPTED
from services.common.rpc.errors import CallError
from services.common.rpc.events import ErrorCode
from services.common.rpc.incoming import Incoming
from services.common.rpc.states import CallState, transition
from services.common.rpc.wire import Field, Status, status_trailers

_log = logging.getLogger(__name__)

RESPONSE_HEADERS: tuple[Field, ...] = (
    (b":status", b"200"),
    (b"content-type", b"application/grpc"),
    (b"grpc-accept-encoding", ACCEPTED),
)
"""What every answer begins with, be it only a status."""


class Ending(Incoming):
    """The end of a call, as its connection brings it about; `Call` has what a handler does."""

    __slots__ = ()

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
        # They know each other; without this only the garbage collector would find them, and what the call has received.
        self._receiver = self._cutter = None

    def _end(self, fields: tuple[Field, ...], state: CallState) -> None:
        before = self.state
        if before is CallState.CANCELLED:
            return
        self.state = transition(before, state)
        if before is CallState.ANSWERING:
            self.connection.http2.send_trailers(self.stream, fields)
        else:
            self.connection.http2.respond(self.stream, (*RESPONSE_HEADERS, *fields), ended=True)
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
