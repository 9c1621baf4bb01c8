"""What time does to a connection of a server: deadlines, keepalive, idleness, age."""

from __future__ import annotations

import asyncio
import math
import random
from typing import Protocol

from services.common.rpc.call import Call
from services.common.rpc.errors import ConnectionLostError
from services.common.rpc.http2 import Http2
from services.common.rpc.limits import Limits
from services.common.rpc.states import CallState, ConnectionState

TICK_SECONDS = 0.1
"""How often a server looks; a deadline that the client does not keep itself is up to so much late."""

LAST_BYTES_SECONDS = 1.0
"""How long a connection that is closed may take to send what is written."""

_ANSWER_TO_WARNING_SECONDS = 1.0


class Kept(Protocol):
    """A connection, as it is looked after.

    Attributes:
        limits: What the client may do.
        http2: Asks it for signs of life.
        state: Where it is in its life.
        heard: Whether anything has come since this was set to False.
        calls: By stream: those that run, and those that are done but not gone.
        begun: How many calls there were.
    """

    limits: Limits
    http2: Http2
    state: ConnectionState
    heard: bool
    calls: dict[int, Call]
    begun: int

    @property
    def transport(self) -> asyncio.Transport:
        """What carries its bytes."""

    def flush(self) -> None:
        """Sends what there is."""

    def fail(self, error: ConnectionLostError) -> None:
        """Ends it at once."""

    def drain(self) -> None:
        """Asks the client to begin no more calls here."""

    def go_away(self) -> None:
        """Takes no more calls."""

    def cancel(self, message: str) -> None:
        """Ends every call, and then the connection."""


class Upkeep:
    """Looks after one connection. All times are seconds of `time.monotonic`.

    Args:
        connection: The connection.
        now: When it began.
    """

    def __init__(self, connection: Kept, now: float) -> None:
        self._connection = connection
        limits = connection.limits
        self._greeted_by = now + limits.greeting_seconds
        # Spread, so that clients that came together do not come back together.
        age = limits.max_age_seconds * random.uniform(0.9, 1.1)  # noqa: S311
        self._ends_at = now + age if age else math.inf
        self._cancels_at = math.inf
        self._aborts_at = math.inf
        self._heard_at = now
        self._asked_at = math.inf
        self._busy_at = now
        self._begun = 0
        self._warned_at = math.inf

    def tick(self, now: float) -> None:
        """Does what is due."""
        connection = self._connection
        if connection.state is ConnectionState.GREETING:
            if now > self._greeted_by:
                connection.fail(ConnectionLostError("expected a client that speaks HTTP/2, got a silent one"))
            return
        self._end_calls(now)
        self._keep_alive(now)
        if connection.state is ConnectionState.OPEN:
            self._drain(now)
        elif connection.state is ConnectionState.WARNED:
            self._warned_at = min(self._warned_at, now)
            if now > self._warned_at + _ANSWER_TO_WARNING_SECONDS:
                connection.go_away()
        if now > self._cancels_at:
            self._cancels_at = math.inf
            self._aborts_at = now + LAST_BYTES_SECONDS
            connection.cancel("the connection is too old")
        if now > self._aborts_at:
            connection.transport.abort()

    def _end_calls(self, now: float) -> None:
        connection = self._connection
        linger = 0.0 if connection.state is ConnectionState.DRAINING else connection.limits.linger_seconds
        for call in list(connection.calls.values()):
            if call.state <= CallState.ANSWERING:
                if now >= call.deadline:
                    call.expire()
            elif now > min(call.ended_at, call.deadline) + linger:
                # Clients do so themselves, and better: a reset that cuts a frame in two loses its bytes from the window
                # of the connection.
                call.reset()

    def _keep_alive(self, now: float) -> None:
        connection, limits = self._connection, self._connection.limits
        if connection.heard:
            connection.heard = False
            self._heard_at, self._asked_at = now, math.inf
        elif now > self._asked_at + limits.keepalive_timeout_seconds:
            connection.fail(ConnectionLostError("expected a sign of life, got none"))
        elif (
            limits.keepalive_seconds and self._asked_at == math.inf and now > self._heard_at + limits.keepalive_seconds
        ):
            self._asked_at = now
            connection.http2.ping()
            connection.flush()

    def _drain(self, now: float) -> None:
        connection, limits = self._connection, self._connection.limits
        if connection.calls or connection.begun != self._begun:
            self._begun = connection.begun
            self._busy_at = now
        elif limits.max_idle_seconds and now > self._busy_at + limits.max_idle_seconds:
            connection.drain()
        if now > self._ends_at:
            self._ends_at = math.inf
            if limits.max_age_grace_seconds:
                self._cancels_at = now + limits.max_age_grace_seconds
            connection.drain()
