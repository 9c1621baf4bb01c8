"""A server: start, serve, drain. To generated code, health and reflection it is a `grpc.aio.Server`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import grpc

from services.common.rpc.connection import ServerConnection
from services.common.rpc.limits import Limits
from services.common.rpc.listening import BACKLOG, listen, port_of
from services.common.rpc.methods import Methods
from services.common.rpc.states import ServerState, transition
from services.common.rpc.upkeep import LAST_BYTES_SECONDS, TICK_SECONDS

_log = logging.getLogger(__name__)


class Server(grpc.aio.Server):
    """A gRPC server in one event loop.

    Ports and methods first, then `start`, then `stop`, each once; a second `stop` only waits, perhaps less long.

    Args:
        limits: What clients may do.
        share_port: Whether other processes may listen on the same port.

    Attributes:
        methods: What can be called.
    """

    def __init__(self, limits: Limits | None = None, *, share_port: bool = False) -> None:
        self.methods = Methods()
        self._limits = limits or Limits()
        self._share_port = share_port
        self._state = ServerState.NEW
        self._sockets: list[tuple[socket.socket, ssl.SSLContext | None]] = []
        self._listening: list[asyncio.Server] = []
        self._connections: set[ServerConnection] = set()
        self._gone = asyncio.Event()
        self._gone.set()
        self._stopped = asyncio.Event()

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Adds servicers; generated code calls this."""
        self.methods.add_generic(generic_rpc_handlers)

    def add_registered_method_handlers(
        self, service_name: str, method_handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        """Adds the methods of a servicer; generated code calls this."""
        self.methods.add_registered(service_name, method_handlers)

    def add_insecure_port(self, address: str) -> int:
        """Takes a port.

        Returns:
            The port.

        Raises:
            RuntimeError: If it cannot be taken, as grpcio does it.
        """
        return self._add_port(address, None)

    def add_secure_port(self, address: str, server_credentials: ssl.SSLContext) -> int:  # type: ignore[override] # grpcio's credentials cannot be read
        """Takes a port for TLS.

        Args:
            address: The address.
            server_credentials: With a certificate, and with whose certificates clients are to show, if they are.

        Returns:
            The port.

        Raises:
            RuntimeError: If it cannot be taken.
        """
        return self._add_port(address, server_credentials)

    def add_socket(self, listening_socket: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        """Takes a socket that is bound already."""
        if tls is not None:
            tls.set_alpn_protocols(["h2"])
        self._sockets.append((listening_socket, tls))

    async def start(self) -> None:
        """Begins to listen."""
        self._state = transition(self._state, ServerState.SERVING)
        loop = asyncio.get_running_loop()
        for bound, tls in self._sockets:
            timeout = None if tls is None else self._limits.greeting_seconds
            if bound.family == socket.AF_UNIX:
                server = await loop.create_unix_server(
                    self._connection, sock=bound, ssl=tls, ssl_handshake_timeout=timeout, backlog=BACKLOG
                )
            else:
                server = await loop.create_server(
                    self._connection, sock=bound, ssl=tls, ssl_handshake_timeout=timeout, backlog=BACKLOG
                )
            self._listening.append(server)
        self._tick()

    async def stop(self, grace: float | None) -> None:
        """Listens no more, lets calls in flight go on for a while, and cancels what is left.

        Args:
            grace: Seconds that calls may go on for; None cancels them at once.
        """
        if self._state is ServerState.NEW:
            self._release()
            self._state = transition(self._state, ServerState.STOPPED)
            self._stopped.set()
        elif self._state is ServerState.SERVING:
            self._state = transition(self._state, ServerState.STOPPING)
            self._release()
            for connection in list(self._connections):
                connection.drain()
        await self._until_gone(grace or 0.0)
        for connection in list(self._connections):
            connection.cancel("the server stops")
        await self._until_gone(LAST_BYTES_SECONDS)
        for connection in list(self._connections):
            connection.transport.abort()
        if self.methods.tasks:
            await asyncio.wait(self.methods.tasks, timeout=LAST_BYTES_SECONDS)
        if self._state is ServerState.STOPPING:
            self._state = transition(self._state, ServerState.STOPPED)
            self._stopped.set()

    async def wait_for_termination(self, timeout: float | None = None) -> bool:
        """Waits until the server has stopped.

        Returns:
            Whether the time ran out before.
        """
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), timeout)
        return not self._stopped.is_set()

    def connected(self, connection: ServerConnection) -> None:
        """Told of each connection that is made."""
        if self._state is ServerState.SERVING:
            self._connections.add(connection)
            self._gone.clear()
        else:
            connection.transport.abort()

    def disconnected(self, connection: ServerConnection) -> None:
        """Told of each connection that is lost."""
        self._connections.discard(connection)
        if not self._connections:
            self._gone.set()

    def _add_port(self, address: str, tls: ssl.SSLContext | None) -> int:
        try:
            sockets = listen(address, share_port=self._share_port)
        except (OSError, ValueError) as error:
            raise RuntimeError(f"cannot listen on {address}: {error}") from error
        for bound in sockets:
            self.add_socket(bound, tls)
        return port_of(sockets[0])

    def _connection(self) -> ServerConnection:
        return ServerConnection(self.methods.begin, self._limits, self)

    async def _until_gone(self, seconds: float) -> None:
        """Waits until no connection is left, but no longer than so many seconds."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._gone.wait(), seconds)

    def _release(self) -> None:
        """Gives the addresses back."""
        paths = [bound.getsockname() for bound, _ in self._sockets if bound.family == socket.AF_UNIX]
        for server in self._listening:
            server.close()
        for bound, _ in self._sockets:
            bound.close()
        for path in paths:
            Path(path).unlink(missing_ok=True)

    def _tick(self) -> None:
        if self._state is ServerState.STOPPED:
            return
        asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)
        now = time.monotonic()
        for connection in list(self._connections):
            try:
                connection.upkeep.tick(now)
            except Exception:  # noqa: BLE001 - the others are looked after all the same
                _log.exception("looking after a connection failed")
