"""One end of a connection on asyncio: what both a server's and a client's are."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from services.common.rpc.errors import ConnectionLostError
from services.common.rpc.events import Events
from services.common.rpc.http2 import OUTPUT_CHUNK_BYTES, Http2
from services.common.rpc.limits import Limits
from services.common.rpc.states import ConnectionState, transition

_log = logging.getLogger(__name__)

_TRANSPORT_FULL_BYTES = 512 * 1024

_MESSAGES_PER_WRITE = 8
"""A write costs some ten microseconds, and what a peer does with a message some twenty; docs/performance.md."""


class Link(asyncio.Protocol, Events):
    """Carries bytes between a transport and HTTP/2: a write for each read, and one or a few for each turn of the loop.

    What gets ready together leaves in writes of a few messages each, so that the peer works on the first while the last
    are still written. Otherwise the two of them would take turns, each with everything that is in flight.

    Args:
        limits: What the peer may do.
        client: Whether this end makes the requests.

    Attributes:
        state: Where it is in its life.
        heard: Whether anything has come since somebody set this to False.
    """

    def __init__(self, limits: Limits, *, client: bool = False) -> None:
        self.limits = limits
        self.http2 = Http2(self, limits, client=client)
        self.state = ConnectionState.GREETING
        self.heard = False
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._writable = True
        self._flush_is_due = False
        self._receiving = False
        self._unwritten = 0
        self._has_spoken = False

    @property
    def transport(self) -> asyncio.Transport:
        """The transport; there is one from `connection_made` on."""
        assert self._transport is not None  # noqa: S101 - the loop calls that first
        return self._transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop first."""
        self._transport = transport  # type: ignore[assignment] # streams both read and write
        self.transport.set_write_buffer_limits(_TRANSPORT_FULL_BYTES)

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        self.heard = True
        self._receiving = True  # At the end of this all is flushed, so nobody needs to ask the loop for that.
        try:
            self.http2.receive(data)
        except ConnectionLostError as error:
            self._receiving = False
            self.fail(error, data)
        else:
            self._receiving = False
            self.flush()

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Calls something in the next turn of the loop."""
        self._loop.call_soon(callback)

    def flush_soon(self) -> None:
        """Sends what there is in the next turn of the loop; some of it now, if there is much."""
        self._has_spoken = True
        if self._receiving:
            return
        if not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self.flush)
        self._unwritten += 1
        if self._unwritten >= _MESSAGES_PER_WRITE:
            try:
                self._write()
            except ConnectionLostError as error:
                self.fail(error)

    def flush(self) -> None:
        """Sends what there is, as far as peer and transport take it."""
        self._flush_is_due = False
        try:
            while self._write():
                self.http2.dispatch()
            self.http2.dispatch()
            self.flushed()
        except ConnectionLostError as error:
            self.fail(error)

    def _write(self) -> bool:
        """Puts out what the peer takes, up to a chunk; tells whether there may be more.

        Raises:
            ConnectionLostError: If the connection has failed.
        """
        self._unwritten = 0
        if not self._writable or self._transport is None:
            return False
        output = self.http2.output()
        if output:
            self._transport.write(output)
        return len(output) >= OUTPUT_CHUNK_BYTES

    def flushed(self) -> None:
        """Called after each flush: there may be room for more."""

    def fail(self, error: ConnectionLostError, _data: bytes = b"") -> None:
        """Ends the connection at once because of what the peer did.

        Args:
            error: What it did.
            _data: The bytes with which it did so.
        """
        _log.log(self._level(), "ending a connection with %s: %s", self._peer(), error)
        self._writable = False
        self.transport.abort()

    def pause_writing(self) -> None:
        """Called by the loop: the transport is full. Who does not read is not read from: answers would pile up."""
        self._writable = False
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Called by the loop: the transport has room again."""
        self._writable = True
        self.transport.resume_reading()
        self.flush()

    def connection_lost(self, _error: Exception | None) -> None:
        """Called by the loop last."""
        self._writable = False
        if self.state is not ConnectionState.CLOSED:
            self.become(ConnectionState.CLOSED)

    def become(self, state: ConnectionState) -> None:
        """Enters a state."""
        self.state = transition(self.state, state)

    def engine_closed(self, code: int, reason: bytes) -> None:
        """Closes the transport, which first sends what was written."""
        if code:
            said = reason[:200]
            _log.log(self._level(), "a connection with %s ends with HTTP/2 error %d: %r", self._peer(), code, said)
        self.transport.close()

    def _level(self) -> int:
        """Gives the level of what is logged of a peer's mistakes: whoever scans ports should not fill the log."""
        return logging.DEBUG if self.state is ConnectionState.GREETING else logging.INFO

    def _peer(self) -> object:
        return self.transport.get_extra_info("peername") or "a peer"
