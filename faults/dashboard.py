"""What stands between the gateway and Ray's dashboard: it hands on what passes, or answers with a page of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

_PAGE = b"<!doctype html><title>Sign in</title><h1>Sign in to go on</h1>"
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (
    len(_PAGE),
    _PAGE,
)
_CHUNK_BYTES = 1 << 16


class Dashboard:
    """The way to Ray's dashboard.

    Args:
        host: Host of the dashboard.
        port: Its port.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._answers_html = False
        self._connections: set[asyncio.StreamWriter] = set()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """Listens until the end of the block; gives the URL."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            host, port = server.sockets[0].getsockname()
            yield f"http://{host}:{port}"
        finally:
            server.close()
            self._hang_up()

    @contextlib.contextmanager
    def answering_html(self) -> Iterator[None]:
        """Answers everything with 200 and HTML until the end of the block."""
        self._answers_html = True
        self._hang_up()
        try:
            yield
        finally:
            self._answers_html = False

    def _hang_up(self) -> None:
        for writer in self._connections:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            if self._answers_html:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(_ANSWER)
                await writer.drain()
                return
            there, back = await asyncio.open_connection(self._host, self._port)
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(_hand_on(reader, back))
                    both.create_task(_hand_on(there, writer))
            finally:
                back.close()
        except* (OSError, EOFError):
            pass  # either side hung up, or there is no dashboard just now, which is how it looks to the gateway, too
        finally:
            self._connections.discard(writer)
            writer.close()


async def _hand_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
    writer.close()
