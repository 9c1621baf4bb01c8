"""What happens on a connection of HTTP/2, whichever library sees it."""

from __future__ import annotations

from enum import IntEnum

from services.common.rpc.wire import Field


class ErrorCode(IntEnum):
    """Reasons to reset a stream or to go away."""

    NO_ERROR = 0
    INTERNAL_ERROR = 2
    REFUSED_STREAM = 7
    CANCEL = 8
    ENHANCE_YOUR_CALM = 11


class Events:
    """What happens on a connection, in its order. Streams are numbered; `ended` says that the peer sends no more."""

    def request_received(self, stream: int, fields: tuple[Field, ...], ended: bool) -> None:
        """A request begins (at a server)."""

    def response_received(self, stream: int, fields: tuple[Field, ...], ended: bool) -> None:
        """A response begins (at a client)."""

    def body_received(self, stream: int, data: bytes, ended: bool) -> None:
        """A part of a body has come; to be acknowledged once it is read."""

    def trailers_received(self, stream: int, fields: tuple[Field, ...]) -> None:
        """What follows a body has come; the peer sends no more."""

    def stream_closed(self, stream: int, code: int) -> None:
        """A stream has ended in both directions, or was reset if the code is not 0; the last event of a stream."""

    def control_received(self) -> None:
        """The peer has sent a PING or SETTINGS, which are answered already."""

    def ping_acknowledged(self) -> None:
        """The peer has answered a ping."""

    def go_away_received(self) -> None:
        """The peer takes no new streams; those that it did not look at are closed next."""

    def engine_closed(self, code: int, reason: bytes) -> None:
        """The connection has nothing more to say once what was put out is sent; with an error if the code is not 0."""
