"""A stream with a client: reads and writes at the same time, and holds back a client that does not read."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

import grpc

_log = logging.getLogger(__name__)

MAX_UNANSWERED = 1024
"""Requests of one stream that may be without a written answer. Beyond that the gateway stops reading, so that gRPC's
flow control holds a client back that sends faster than it reads."""


class MessageStream:
    """Serves one stream: reads in one task, writes in another.

    Args:
        context: The call.
        take: Told of each message that comes.
        unanswered: Tells how many requests there are for which no answer was sent yet.
    """

    def __init__(
        self,
        context: grpc.aio.ServicerContext[Any, Any],
        take: Callable[[Any], None],
        unanswered: Callable[[], int],
    ) -> None:
        self._context = context
        self._take = take
        self._unanswered = unanswered
        self._outbox: deque[object] = deque()
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        # True once no more requests will come: the client has half-closed, or nobody reads any more.
        self._closing = False
        self._reader: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Serves the stream until everything is answered and no more comes, or the client goes away.

        Raises:
            DecodeError: If the client sent bytes that are no request; what it sent before is answered.
        """
        self._reader = asyncio.create_task(self._read())
        try:
            await self._write()
            if self._reader.done() and not self._reader.cancelled():
                self._reader.result()
        except grpc.aio.InternalError as error:
            # What gRPC raises where it can no longer write: the client has gone, and nobody is left to tell.
            _log.debug("a stream broke: %s", error)
        finally:
            self._reader.cancel()

    def stop_reading(self) -> None:
        """Reads no more; the stream ends when everything in flight is answered."""
        if self._reader is not None:
            self._reader.cancel()
        self._closing = True
        self._news.set()

    def send(self, message: object) -> None:
        """Sends a message once those before it are sent."""
        self._outbox.append(message)
        self._news.set()

    def wake(self) -> None:
        """Has it look again at how many requests are unanswered."""
        self._news.set()

    async def _read(self) -> None:
        read = self._context.read
        try:
            while (message := await read()) is not grpc.aio.EOF:
                self._take(message)
                if self._unanswered() + len(self._outbox) >= MAX_UNANSWERED:
                    self._room.clear()
                    await self._room.wait()
        finally:
            self._closing = True
            self._news.set()

    async def _write(self) -> None:
        write = self._context.write
        outbox = self._outbox
        while True:
            while outbox:
                await write(outbox.popleft())
            unanswered = self._unanswered()
            if unanswered < MAX_UNANSWERED:
                self._room.set()
            if self._closing and not unanswered:
                return
            self._news.clear()
            await self._news.wait()
