"""One connection of a server."""

from __future__ import annotations

import asyncio
import functools
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from services.common.rpc.admission import Refusal, explain, explain_to_http1, is_call, read_head
from services.common.rpc.call import Call
from services.common.rpc.errors import CallError, ConnectionLostError
from services.common.rpc.limits import Limits, RateLimit
from services.common.rpc.link import Link
from services.common.rpc.peer import Peer, peer_of
from services.common.rpc.receiver import Hold
from services.common.rpc.room import Room
from services.common.rpc.states import ConnectionState
from services.common.rpc.upkeep import Upkeep
from services.common.rpc.wire import Field, Status

_PREFACE = b"PRI * HTTP/2.0"


class Owner(Protocol):
    """Who keeps the connections of a server."""

    def connected(self, connection: ServerConnection) -> None:
        """A connection is made."""

    def disconnected(self, connection: ServerConnection) -> None:
        """A connection is lost."""


class ServerConnection(Link):
    """Takes the calls of one client.

    Args:
        begin: Begins a call.
        limits: What the client may do.
        owner: Told when it is made and lost.

    Attributes:
        calls: By stream: those that run, and those that are done but not gone.
        room: What waits to be sent.
        partial_bytes: What has come of messages that are not whole.
        begun: How many calls there were.
        upkeep: Looks after it.
    """

    def __init__(self, begin: Callable[[Call], None], limits: Limits, owner: Owner) -> None:
        super().__init__(limits)
        self.calls: dict[int, Call] = {}
        self.room = Room(self.http2, limits)
        self.partial_bytes = 0
        self.begun = 0
        self._begin = begin
        self._owner = owner
        self._waiting: deque[Call] = deque()
        now = time.monotonic()
        self._controls = RateLimit(limits.pings, now)
        self.upkeep = Upkeep(self, now)

    @functools.cached_property
    def peer(self) -> Peer:
        """Who is at the other end."""
        return peer_of(self.transport)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop first. Nothing is sent before the client has: it may speak HTTP/1.1."""
        super().connection_made(transport)
        self._writable = False
        tls = transport.get_extra_info("ssl_object")
        if tls is None or tls.selected_alpn_protocol() == "h2":
            self._owner.connected(self)
        else:
            self.transport.set_protocol(Refusal(self.transport))

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        if self.state is ConnectionState.GREETING and data.startswith(_PREFACE):
            # It speaks HTTP/2, so it may be answered, be it that its next bytes are none.
            self._writable = True
        super().data_received(data)

    def fail(self, error: ConnectionLostError, data: bytes = b"") -> None:
        """Ends the connection at once; one that speaks HTTP/1.1 is told what this is."""
        if self.state is not ConnectionState.GREETING or not explain_to_http1(self.transport, data):
            super().fail(error)

    def connection_lost(self, error: Exception | None) -> None:
        """Called by the loop last."""
        super().connection_lost(error)
        self._owner.disconnected(self)
        calls = list(self.calls.values())
        self.calls.clear()
        for call in calls:
            call.close()

    def request_received(self, stream: int, fields: tuple[Field, ...], ended: bool) -> None:
        """A call begins."""
        known = dict(fields)
        if not is_call(known):
            explain(self.http2, stream, known)
            return
        self.begun += 1
        call = self.calls[stream] = Call(self, stream, known[b":path"], fields)
        try:
            read_head(call, known, self.limits)
        except CallError as error:
            call.abandon(error)
        else:
            if self.room.crowded:
                call.hold(Hold.ADMISSION)
                self._waiting.append(call)
            else:
                self._begin(call)
        if ended:
            call.take(b"", ended=True)

    def body_received(self, stream: int, data: bytes, ended: bool) -> None:
        """A part of a request has come."""
        call = self.calls.get(stream)
        if call is not None:
            call.take(data, ended=ended)
        elif data:
            self.http2.acknowledge(stream, len(data))

    def trailers_received(self, stream: int, _fields: tuple[Field, ...]) -> None:
        """A request has ended with trailers, which mean nothing in gRPC."""
        self.body_received(stream, b"", True)

    def stream_closed(self, stream: int, _code: int) -> None:
        """A call is gone."""
        call = self.calls.pop(stream, None)
        if call is not None:
            call.close()

    def control_received(self) -> None:
        """A PING or SETTINGS has come."""
        if self.state is ConnectionState.GREETING:
            self.become(ConnectionState.OPEN)
            self._writable = True
        # Clients measure the way to the server with pings while it answers; only those between answers can be a flood.
        if self._has_spoken:
            self._has_spoken = False
            self._controls.refill()
        if not self._controls.take(time.monotonic()):
            raise ConnectionLostError("expected few PING and SETTINGS frames, got a flood")

    def ping_acknowledged(self) -> None:
        """All that the client sent before it saw our warning has come."""
        if self.state is ConnectionState.WARNED:
            self.go_away()

    def flushed(self) -> None:
        """Lets those go on that waited for room."""
        self.room.look()
        while self._waiting and not self.room.crowded:
            call = self._waiting.popleft()
            if not call.cancelled:
                self._begin(call)
                call.release(Hold.ADMISSION)

    def drain(self) -> None:
        """Asks the client to begin no more calls here; those that it has begun go on."""
        if self.state is ConnectionState.OPEN:
            self.become(ConnectionState.WARNED)
            self.http2.warn_of_shutdown()
            self.http2.ping()
            self.flush()
        elif self.state is ConnectionState.GREETING:
            self.transport.abort()

    def go_away(self) -> None:
        """Takes no more calls; the connection ends when none is left."""
        if self.state is ConnectionState.WARNED:
            self.become(ConnectionState.DRAINING)
            self.http2.go_away()
            self.flush()

    def cancel(self, message: str) -> None:
        """Ends every call with UNAVAILABLE, and then the connection."""
        for call in list(self.calls.values()):
            call.abandon(CallError(Status.UNAVAILABLE, message))
        self.http2.go_away(message.encode())
        self.flush()
        self.transport.close()
