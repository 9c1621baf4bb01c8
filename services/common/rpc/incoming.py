"""What comes on one call of a server: bytes into messages, messages to the handler, and when not to read."""

from __future__ import annotations

import abc
import logging
import math
import time
from collections.abc import Callable
from typing import Self

from services.common.rpc.carrier import Carrier
from services.common.rpc.compression import Encoding
from services.common.rpc.errors import CallError
from services.common.rpc.messages import MessageCutter, only_message
from services.common.rpc.receiver import Hold, Receiver
from services.common.rpc.states import CallState
from services.common.rpc.wire import Field, Metadatum, Status, decode_metadata

_log = logging.getLogger(__name__)

# Windows are given back in steps of at least so much, and once a call is over.
_ACKNOWLEDGED_BYTES = 4096

# What one read may hold of a stream, thousands of messages, would keep all others from being answered meanwhile.
_MESSAGES_PER_TURN = 32


class Incoming(abc.ABC):
    """The side of a call that the client sends.

    Attributes:
        connection: Where it came from: address, certificate.
        stream: Its number on the connection.
        path: `/package.Service/Method`.
        fields: The header fields, as they came.
        deadline: Seconds of `time.monotonic`; infinite if the client set none.
        ended_at: Seconds of `time.monotonic` when it was ended before the client had half-closed; infinite otherwise.
        state: What has been answered.
        request_encoding: What requests are compressed with, where they are.
        half_closed: Whether the client sends no more.
    """

    __slots__ = (
        "_cutter",
        "_delivering",
        "_holds",
        "_partial",
        "_receiver",
        "_told_half_close",
        "_unread",
        "connection",
        "deadline",
        "ended_at",
        "fields",
        "half_closed",
        "path",
        "request_encoding",
        "state",
        "stream",
    )

    def __init__(self, connection: Carrier, stream: int, path: bytes, fields: tuple[Field, ...]) -> None:
        self.connection = connection
        self.stream = stream
        self.path = path
        self.fields = fields
        self.deadline = math.inf
        self.ended_at = math.inf
        self.state = CallState.OPEN
        self.request_encoding: Encoding = "identity"
        self.half_closed = False
        self._receiver: Receiver | None = None
        # Made for the first bytes that are not one message and all there is.
        self._cutter: MessageCutter | None = None
        self._holds = 0
        self._delivering = False
        self._told_half_close = False
        self._unread = 0
        self._partial = 0

    def metadata(self) -> tuple[Metadatum, ...]:
        """Gives the client's metadata."""
        return decode_metadata(self.fields)

    def time_remaining(self) -> float | None:
        """Gives the seconds until the deadline; None without one."""
        return None if self.deadline == math.inf else max(0.0, self.deadline - time.monotonic())

    @abc.abstractmethod
    def abandon(self, error: CallError) -> None:
        """Ends the call for its handler, and with an error for its client; does nothing if it has ended before."""

    def open(self, opener: Callable[[Self], Receiver]) -> None:
        """Begins the call."""
        try:
            self._receiver = opener(self)
        except Exception as error:  # noqa: BLE001 - a handler's fault ends its call and nothing else
            self._raised(error)

    def take(self, data: bytes, *, ended: bool) -> None:
        """Takes bytes of the client."""
        self._unread += len(data)
        self.half_closed = ended
        if self.state > CallState.ANSWERING:
            self._acknowledge()
            return
        cutter = self._cutter
        if cutter is None:
            limit = self.connection.limits.max_receive_message_bytes
            if ended and not self._holds and (message := only_message(data, limit)) is not None:
                self._deliver_only(message)
                return
            cutter = self._cutter = MessageCutter(limit, self.request_encoding)
        cutter.feed(data)
        if not self._holds:
            self._deliver()

    def hold(self, reason: Hold) -> None:
        """Stops reading."""
        self._holds |= reason

    def release(self, reason: Hold) -> None:
        """Takes one reason away; reads on if it was the last."""
        if self._holds & reason:
            self._holds &= ~reason
            self._read_on()

    def make_room(self) -> None:
        """Tells the handler of room for answers, and reads on."""
        self._holds &= ~Hold.ROOM
        try:
            if self._receiver is not None and self.state <= CallState.ANSWERING:
                self._receiver.room()
        except Exception as error:  # noqa: BLE001 - a handler's fault ends its call and nothing else
            self._raised(error)
        self._read_on()

    def _begin_turn(self) -> None:
        self.release(Hold.TURN)

    def _read_on(self) -> None:
        if self.state > CallState.ANSWERING:
            self._acknowledge()
        elif not self._holds and not self._delivering:
            self._deliver()
            self.connection.flush_soon()

    def _deliver_only(self, message: bytes) -> None:
        self._told_half_close = True
        if self._receiver is not None:
            try:
                self._receiver.only(message)
            except Exception as error:  # noqa: BLE001 - a handler's fault ends its call and nothing else
                self._raised(error)

    def _deliver(self) -> None:
        receiver, cutter = self._receiver, self._cutter
        if receiver is None or cutter is None:
            return
        self._delivering = True
        try:
            left = _MESSAGES_PER_TURN
            while (message := cutter.next()) is not None:
                receiver.message(message)
                left -= 1
                if not left:
                    self.hold(Hold.TURN)
                    self.connection.call_soon(self._begin_turn)
                if self._holds or self.state > CallState.ANSWERING:
                    break
            else:
                held = cutter.held
                if held or self._partial:
                    self._count_partial(held)
                if self.half_closed and not self._told_half_close:
                    self._told_half_close = True
                    receiver.half_close()
        except Exception as error:  # noqa: BLE001 - a handler's fault ends its call and nothing else
            self._raised(error)
        finally:
            self._delivering = False
        if self._unread >= _ACKNOWLEDGED_BYTES and (not self._holds or self.state > CallState.ANSWERING):
            self._acknowledge()

    def _count_partial(self, held: int) -> None:
        """Counts what has come of a message that is not whole: its bytes no window bounds, so that it can get whole."""
        connection = self.connection
        connection.partial_bytes += held - self._partial
        self._partial = held
        if held and self.half_closed:
            raise CallError(Status.INTERNAL, f"expected whole messages, got {held} bytes of one")
        if held and connection.partial_bytes > connection.limits.max_partial_bytes:
            raise CallError(
                Status.RESOURCE_EXHAUSTED,
                f"expected messages in parts of at most {connection.limits.max_partial_bytes} bytes on a connection, "
                f"got {connection.partial_bytes}",
            )

    def _acknowledge(self) -> None:
        """Lets the client send as much again as was read."""
        if self._unread:
            self.connection.http2.acknowledge(self.stream, self._unread)
            self._unread = 0

    def _raised(self, error: Exception) -> None:
        """Ends the call with what its handler has raised."""
        if not isinstance(error, CallError):
            _log.error("a handler of %s failed", self.path.decode(errors="replace"), exc_info=error)
            error = CallError(Status.UNKNOWN, f"Unexpected {type(error)}: {error}")
        self.abandon(error)
