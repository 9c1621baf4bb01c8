"""The states of calls, connections and servers, and every transition between them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import TypeVar

from services.common.rpc.errors import StateError


class CallState(IntEnum):
    """What has been sent on a call.

    Attributes:
        OPEN: Nothing yet.
        ANSWERING: Initial metadata, and perhaps messages.
        DONE: The status: the handler has ended the call.
        CANCELLED: Nobody wants the handler's answer any more: the client went, the deadline passed, or the request was
            none. Whatever the handler still sends is dropped.
    """

    OPEN = 0
    ANSWERING = 1
    DONE = 2
    CANCELLED = 3


class ConnectionState(IntEnum):
    """Where a connection is in its life.

    Attributes:
        GREETING: The peer has not said that it speaks HTTP/2.
        OPEN: Calls come and go.
        WARNED: The first GOAWAY is sent; calls that crossed it on the way are still taken.
        DRAINING: The last GOAWAY is sent; calls in flight go on.
        CLOSED: Nothing goes through any more.
    """

    GREETING = 0
    OPEN = 1
    WARNED = 2
    DRAINING = 3
    CLOSED = 4


class ServerState(IntEnum):
    """Where a server is in its life; it has only one."""

    NEW = 0
    SERVING = 1
    STOPPING = 2
    STOPPED = 3


_C, _L, _S = CallState, ConnectionState, ServerState

_State = TypeVar("_State", CallState, ConnectionState, ServerState)

_NEXT: Mapping[type, Mapping[IntEnum, frozenset[IntEnum]]] = {
    CallState: {
        _C.OPEN: frozenset({_C.ANSWERING, _C.DONE, _C.CANCELLED}),
        _C.ANSWERING: frozenset({_C.DONE, _C.CANCELLED}),
        _C.DONE: frozenset(),
        _C.CANCELLED: frozenset(),
    },
    ConnectionState: {
        _L.GREETING: frozenset({_L.OPEN, _L.CLOSED}),
        _L.OPEN: frozenset({_L.WARNED, _L.CLOSED}),
        _L.WARNED: frozenset({_L.DRAINING, _L.CLOSED}),
        _L.DRAINING: frozenset({_L.CLOSED}),
        _L.CLOSED: frozenset(),
    },
    ServerState: {
        _S.NEW: frozenset({_S.SERVING, _S.STOPPED}),
        _S.SERVING: frozenset({_S.STOPPING}),
        _S.STOPPING: frozenset({_S.STOPPED}),
        _S.STOPPED: frozenset(),
    },
}


def transition(old: _State, new: _State) -> _State:
    """Gives the new state.

    Raises:
        StateError: If the old one does not lead to it.
    """
    following = _NEXT[type(old)][old]
    if new not in following:
        names = ", ".join(state.name for state in sorted(following)) or "nothing"
        raise StateError(f"expected {names} after {old.name}, got {new.name}")
    return new
