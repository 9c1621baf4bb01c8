"""Small real servers that tell the command line a story."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from services.common.server import Service, create_server
from steersman.settings import Settings


@contextmanager
def served(*services: Service) -> Iterator[str]:
    """Serves until the block ends, on an event loop of its own, since the command line blocks.

    Args:
        *services: What it serves.

    Yields:
        The address.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> tuple[str, Callable[[], None]]:
        server = create_server(Settings(), "127.0.0.1:0", services, grace_seconds=0)
        await server.start()
        return server.address, lambda: asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)

    address, stop = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    try:
        yield address
    finally:
        stop()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
