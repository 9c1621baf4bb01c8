"""Connections joined in memory, without sockets."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from services.common.rpc.client_connection import ClientConnection
from services.common.rpc.connection import Owner, ServerConnection
from services.common.rpc.limits import Limits
from services.common.rpc.link import Link
from services.common.rpc.methods import Methods


class MemoryTransport(asyncio.Transport):
    """Keeps what is written.

    Attributes:
        written: Chunks that nobody has taken.
        closed: Whether it was closed or aborted.
        reading: Whether its protocol wants to read.
        high: Bytes above which it is full; it is never full before it is told.
    """

    def __init__(self, protocol: Link) -> None:
        super().__init__()
        self.written: deque[bytes] = deque()
        self.closed = False
        self.reading = True
        self.full_bytes = 2**60
        self._protocol = protocol
        self._paused = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - as asyncio has it
        return ("127.0.0.1", 1) if name == "peername" else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))
        if sum(map(len, self.written)) > self.full_bytes and not self._paused:
            self._paused = True
            self._protocol.pause_writing()

    def take(self) -> bytes:
        """Gives what was written, as a peer that reads."""
        data = b"".join(self.written)
        self.written.clear()
        if self._paused:
            self._paused = False
            self._protocol.resume_writing()
        return data

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True


class Keeper(Owner):
    """Keeps connections."""

    def __init__(self) -> None:
        self.connections: set[ServerConnection] = set()

    def connected(self, connection: ServerConnection) -> None:
        self.connections.add(connection)

    def disconnected(self, connection: ServerConnection) -> None:
        self.connections.discard(connection)


class MemoryServer:
    """One connection of a server.

    Attributes:
        connection: The connection.
        transport: What it writes to.
        keeper: Who keeps it.
    """

    def __init__(self, methods: Methods, limits: Limits | None = None) -> None:
        self.keeper = Keeper()
        self.connection = ServerConnection(methods.begin, limits or Limits(), self.keeper)
        self.transport = MemoryTransport(self.connection)
        self.connection.connection_made(self.transport)


class Pair:
    """A client and a server.

    Args:
        methods: What the server answers.
        limits: The server's.
    """

    def __init__(self, methods: Methods, limits: Limits | None = None) -> None:
        self.server = MemoryServer(methods, limits)
        self.client = ClientConnection(Limits(connection_window_bytes=2**31 - 1))
        self.client_transport = MemoryTransport(self.client)
        self.client.connection_made(self.client_transport)

    def exchange(self, cut: Callable[[bytes], Sequence[bytes]] = lambda data: [data]) -> None:
        """Carries bytes until nobody has any.

        Args:
            cut: How to cut them.
        """
        self.flush()
        while self.client_transport.written or self.server.transport.written:
            for chunk in cut(self.client_transport.take()):
                self.server.connection.data_received(chunk)
            for chunk in cut(self.server.transport.take()):
                self.client.data_received(chunk)
            self.flush()

    def flush(self) -> None:
        """Has both write what they have, as the next turn of the loop would."""
        self.client.flush()
        self.server.connection.flush()

    def lose(self) -> None:
        """Breaks the connection."""
        self.server.connection.connection_lost(None)
        self.client.connection_lost(None)


def each_byte(data: bytes) -> list[bytes]:
    """Cuts between all bytes."""
    return [data[index : index + 1] for index in range(len(data))]
