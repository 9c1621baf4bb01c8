"""A client for asyncio, light enough to load a server with: unary calls and streams over one connection.

It has no balancing, proxies or name service, and calls again only what the server has not looked at; grpcio has it all.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from types import TracebackType
from typing import Self

from services.common.rpc.client_connection import ClientConnection
from services.common.rpc.client_streams import Stream, UnaryCall
from services.common.rpc.errors import CallError
from services.common.rpc.limits import Limits
from services.common.rpc.wire import Field, Metadata, Status, encode_metadata, format_timeout

_LIMITS = Limits(connection_window_bytes=2**31 - 1, max_metadata_bytes=64 * 1024)
_MAX_ATTEMPTS = 3


class Channel:
    """Calls one server, over a connection that is made when there is something to call.

    Args:
        target: `host:port` or `unix:/path`.
        tls: How to check the server, and which certificate to show it; None for plain text.
        limits: What the server may send.
        connect_seconds: How long it may take until the server speaks HTTP/2.
    """

    def __init__(
        self,
        target: str,
        *,
        tls: ssl.SSLContext | None = None,
        limits: Limits = _LIMITS,
        connect_seconds: float = 20.0,
    ) -> None:
        self._target = target
        self._tls = tls
        self._limits = limits
        self._connect_seconds = connect_seconds
        self._connection: ClientConnection | None = None
        self._connecting = asyncio.Lock()
        authority = b"localhost" if target.startswith("unix:") else target.encode()
        self._fields: tuple[tuple[Field, ...], tuple[Field, ...]] = (
            ((b":method", b"POST"), (b":scheme", b"http" if tls is None else b"https"), (b":authority", authority)),
            (
                (b"te", b"trailers"),
                (b"content-type", b"application/grpc"),
                (b"user-agent", b"rpc-python-asyncio"),
                (b"grpc-accept-encoding", b"identity,deflate,gzip"),
            ),
        )
        if tls is not None:
            tls.set_alpn_protocols(["h2"])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def unary(self, path: str, message: bytes, *, timeout: float | None = None, metadata: Metadata = ()) -> bytes:
        """Calls a method of one request and one answer.

        Args:
            path: `/package.Service/Method`.
            message: The request.
            timeout: Seconds.
            metadata: What goes with it.

        Raises:
            CallError: If it fails.
        """
        attempts = 0
        while True:
            attempts += 1
            call = UnaryCall(await self._connected())
            call.begin(self._request(path, timeout, metadata), timeout)
            call.send(message, last=True)
            try:
                return await call.answer
            except CallError:
                # A server that drains its connection refuses calls that crossed its word for that on the way.
                if not call.refused or attempts == _MAX_ATTEMPTS:
                    raise
            finally:
                call.cancel()

    async def stream(self, path: str, *, timeout: float | None = None, metadata: Metadata = ()) -> Stream:
        """Begins a stream.

        Raises:
            CallError: If there is no connection.
        """
        call = Stream(await self._connected())
        call.begin(self._request(path, timeout, metadata), timeout)
        return call

    async def close(self) -> None:
        """Ends the connection, and with it every call."""
        if self._connection is not None:
            for call in [*self._connection.calls.values()]:
                call.cancel(Status.CANCELLED, "the channel was closed")
            self._connection.transport.abort()
            self._connection = None

    async def _connected(self) -> ClientConnection:
        if self._connection is not None and self._connection.takes_calls:
            return self._connection
        async with self._connecting:
            if self._connection is None or not self._connection.takes_calls:
                self._connection = await self._connect()
            return self._connection

    async def _connect(self) -> ClientConnection:
        connection = None
        try:
            async with asyncio.timeout(self._connect_seconds):
                connection = await self._opened()
                try:
                    await connection.greeted
                except BaseException:
                    # Also where the caller has given up: nobody else knows of this connection.
                    connection.transport.abort()
                    raise
                return connection
        except TimeoutError:
            # gRPC's own words for it, which those who explain failures know.
            reason = "it takes too long" if connection is None else "timeout before receiving SETTINGS frame"
        except OSError as error:
            reason = str(error) if error.errno is None or isinstance(error, ssl.SSLError) else os.strerror(error.errno)
        raise CallError(Status.UNAVAILABLE, f"failed to connect to {self._target}: {reason}")

    async def _opened(self) -> ClientConnection:
        loop = asyncio.get_running_loop()
        if self._target.startswith("unix:"):
            path = self._target.removeprefix("unix:").removeprefix("//")
            _, connection = await loop.create_unix_connection(
                lambda: ClientConnection(self._limits), path, ssl=self._tls
            )
        else:
            host, _, port = self._target.rpartition(":")
            _, connection = await loop.create_connection(
                lambda: ClientConnection(self._limits), host.strip("[]"), int(port), ssl=self._tls
            )
        return connection

    def _request(self, path: str, timeout: float | None, metadata: Metadata) -> list[Field]:
        before, after = self._fields
        fields = [*before, (b":path", path.encode()), *after]
        if timeout is not None:
            fields.append((b"grpc-timeout", format_timeout(timeout)))
        if metadata:
            fields += encode_metadata(metadata)
        return fields
