"""One connection of a client."""

from __future__ import annotations

import asyncio

from services.common.rpc.client_call import ClientCall
from services.common.rpc.errors import CallError
from services.common.rpc.limits import Limits
from services.common.rpc.link import Link
from services.common.rpc.states import ConnectionState
from services.common.rpc.wire import Field, Status


class ClientConnection(Link):
    """One connection to a server.

    Attributes:
        calls: By stream: those that run, and those that are done but not gone.
        full: Those that wait for room.
        greeted: Done once the server speaks HTTP/2; fails with the `CallError` of a connection that ends before.
    """

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits, client=True)
        self.calls: dict[int, ClientCall] = {}
        self.full: set[ClientCall] = set()
        self.greeted: asyncio.Future[None] = self._loop.create_future()

    @property
    def takes_calls(self) -> bool:
        """Whether calls can begin on it."""
        return self.state <= ConnectionState.OPEN

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop first."""
        super().connection_made(transport)
        self.flush()

    def connection_lost(self, error: Exception | None) -> None:
        """Called by the loop last."""
        super().connection_lost(error)
        if not self.greeted.done():
            self.greeted.set_exception(CallError(Status.UNAVAILABLE, "the connection ended before its first SETTINGS"))
        calls = list(self.calls.values())
        self.calls.clear()
        for call in calls:
            call.lost(error)

    def response_received(self, stream: int, fields: tuple[Field, ...], ended: bool) -> None:
        """A response begins."""
        call = self.calls.get(stream)
        if call is not None:
            call.responded(fields, ended=ended)

    def body_received(self, stream: int, data: bytes, ended: bool) -> None:
        """A part of a response has come."""
        call = self.calls.get(stream)
        if call is not None:
            call.take(data, ended=ended)

    def trailers_received(self, stream: int, fields: tuple[Field, ...]) -> None:
        """A response has ended."""
        call = self.calls.get(stream)
        if call is not None:
            call.trailed(fields)

    def stream_closed(self, stream: int, code: int) -> None:
        """A call is gone."""
        call = self.calls.pop(stream, None)
        if call is not None:
            call.close(code)

    def control_received(self) -> None:
        """The server speaks HTTP/2."""
        if self.state is ConnectionState.GREETING:
            self.become(ConnectionState.OPEN)
            if not self.greeted.done():
                self.greeted.set_result(None)

    def flushed(self) -> None:
        """Something was sent; there may be room."""
        for call in [*self.full]:
            call.flushed()

    def go_away_received(self) -> None:
        """The server takes no new calls here."""
        if self.state is ConnectionState.OPEN:
            self.become(ConnectionState.WARNED)
