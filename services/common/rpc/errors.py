"""Errors of the package: each says whose fault it is, and whether it ends a call or the connection."""

from __future__ import annotations

from services.common.rpc.wire import Metadata, Status


class CallError(Exception):
    """Ends one call with a status; neighbours on the connection go on.

    A direct handler may raise it; a caller of the client catches it.

    Args:
        status: The status of the call; not OK.
        message: What a person may read.
        trailing: Trailing metadata.
    """

    def __init__(self, status: Status, message: str = "", trailing: Metadata = ()) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.trailing = trailing

    def __str__(self) -> str:
        return f"{self.status.name}: {self.message}"


class ConnectionLostError(Exception):
    """The peer broke HTTP/2, or a limit that protects us from it; ends the connection."""


class StateError(RuntimeError):
    """Our own program asked for what the state does not allow, such as a second answer to a call; ends nothing."""
