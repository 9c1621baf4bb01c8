"""The way to the dashboard, between a real client and a real server."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from faults.dashboard import Dashboard


@pytest.fixture
async def dashboard() -> AsyncIterator[Dashboard]:
    """A way to a server that answers with JSON, over connections that stay."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
                await writer.drain()
        except (EOFError, OSError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield Dashboard(*server.sockets[0].getsockname())
    server.close()


async def get(url: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.get(url)


async def test_what_passes_is_handed_on_unless_it_answers_by_itself(dashboard: Dashboard) -> None:
    async with dashboard.listening() as url:
        assert (await get(url)).json() == {}
        with dashboard.answering_html():
            page = await get(url)
            assert (page.status_code, page.headers["content-type"]) == (200, "text/html")
            assert "Sign in" in page.text
        assert (await get(url)).json() == {}


async def test_connections_from_before_end_when_it_begins_to_answer_by_itself(dashboard: Dashboard) -> None:
    async with dashboard.listening() as url:
        parts = httpx.URL(url)
        reader, writer = await asyncio.open_connection(parts.host, parts.port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert (await reader.readuntil(b"{}")).startswith(b"HTTP/1.1 200 OK")
        with dashboard.answering_html():
            assert await reader.read() == b""
        writer.close()


async def test_it_hangs_up_where_there_is_no_dashboard() -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    server.close()
    await server.wait_closed()
    async with Dashboard(host, port).listening() as url:
        with pytest.raises(httpx.TransportError):
            await get(url)
