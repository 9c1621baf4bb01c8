"""What a call of a server needs of the connection that carries it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from services.common.rpc.http2 import Http2
from services.common.rpc.limits import Limits
from services.common.rpc.peer import Peer
from services.common.rpc.room import Room


class Carrier(Protocol):
    """A connection, as its calls see it.

    Attributes:
        limits: What the client may do.
        http2: Sends what they answer.
        room: What waits to be sent.
        partial_bytes: What has come of messages that are not whole; each call counts its own.
    """

    limits: Limits
    http2: Http2
    room: Room
    partial_bytes: int

    @property
    def peer(self) -> Peer:
        """Who is at the other end."""

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Calls something in the next turn of the loop."""

    def flush_soon(self) -> None:
        """Sends what there is, soon."""
