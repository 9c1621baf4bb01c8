"""Small real servers: some that tell clients a story, and one that says nothing."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

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


@contextmanager
def silent_server() -> Iterator[str]:
    """Takes connections and says nothing, as a process that is stopped does.

    Yields:
        The address.
    """
    taken: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:

        def take() -> None:
            with suppress(OSError):
                while True:
                    taken.append(listener.accept()[0])

        thread = threading.Thread(target=take)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            # Which wakes the thread, as closing it would not.
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in taken:
                connection.close()
