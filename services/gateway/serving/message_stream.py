"""A stream with a client: reads and writes at the same time, and holds back a client that does not read."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import grpc

from services.common.errors import as_steersman_error
from services.common.handlers import Unreadable
from steersman.errors import InvalidArgumentError, SteersmanError

_log = logging.getLogger(__name__)

MAX_UNANSWERED = 1024
"""Requests of one stream that may be without a written answer. Beyond that the gateway stops reading, so that gRPC's
flow control holds a client back that sends faster than it reads."""


class MessageStream:
    """Serves one stream: reads in one task, writes in another.

    A request that cannot be read, or whose `take` raises, is refused, and the stream goes on.

    Args:
        context: The call; what it reads may be `Unreadable`.
        take: Takes a request. Whatever it raises is told to the client as the answer to that request.
        refuse: Answers a request with an error.
        shorten: Gives the answer that takes the place of one that is too large to be sent, from that and the reason.
        unanswered: Tells how many requests there are for which no answer was sent yet.
    """

    def __init__(
        self,
        context: grpc.aio.ServicerContext[Any, Any],
        take: Callable[[Any], None],
        refuse: Callable[[Any, SteersmanError], None],
        shorten: Callable[[Any, InvalidArgumentError], object],
        unanswered: Callable[[], int],
    ) -> None:
        self._context = context
        self._take = take
        self._refuse = refuse
        self._shorten = shorten
        self._unanswered = unanswered
        self._outbox: deque[object] = deque()
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        # True once no more requests will come: the client has half-closed, or nobody reads any more.
        self._closing = False
        # True once reading has failed, so that requests which were read may never be answered.
        self._broken = False
        self._reader: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Serves the stream until everything is answered and no more comes, or the client goes away.

        Raises:
            Exception: If reading failed; what was ready by then is sent.
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
                if isinstance(message, Unreadable):
                    self._refuse(message.message, message.error)
                else:
                    try:
                        self._take(message)
                    except Exception as error:  # noqa: BLE001 - a fault with one request is no other's
                        self._refuse(message, as_steersman_error(error, "taking a request of a stream"))
                if self._unanswered() + len(self._outbox) >= MAX_UNANSWERED:
                    self._room.clear()
                    await self._room.wait()
        except Exception:
            self._broken = True
            raise
        finally:
            self._closing = True
            self._news.set()

    async def _write(self) -> None:
        write = self._context.write
        outbox = self._outbox
        while True:
            while outbox:
                message = outbox.popleft()
                try:
                    await write(message)
                except InvalidArgumentError as error:
                    await write(self._shorten(message, error))
            unanswered = self._unanswered()
            if unanswered < MAX_UNANSWERED:
                self._room.set()
            if self._broken or (self._closing and not unanswered):
                return
            self._news.clear()
            await self._news.wait()


class Finishable(Protocol):
    """A stream that can be asked to end."""

    def finish(self) -> None:
        """Takes no more requests; it ends when everything in flight is answered."""


class OpenStreams:
    """The streams of a service that are open, to have them end when it is time.

    Args:
        connection_age_seconds: Age at which gRPC asks clients to replace a connection, which it cuts off at twice that
            age. 0 for never.
    """

    def __init__(self, connection_age_seconds: float = 0.0) -> None:
        self._connection_age_seconds = connection_age_seconds
        self._open: set[Finishable] = set()

    def finish(self) -> None:
        """Has all of them end."""
        for stream in list(self._open):
            stream.finish()

    @contextlib.contextmanager
    def opened(self, stream: Finishable) -> Iterator[None]:
        """Keeps a stream among those that are open until the block ends."""
        timer = None
        if self._connection_age_seconds:
            # A stream may begin when its connection is already of age. So it ends well before its own age is as much
            # as the connection still has, and streams that began together do not all end at once.
            seconds = self._connection_age_seconds * random.uniform(0.6, 0.8)  # noqa: S311 - no secret
            timer = asyncio.get_running_loop().call_later(seconds, stream.finish)
        self._open.add(stream)
        try:
            yield
        finally:
            self._open.discard(stream)
            if timer is not None:
                timer.cancel()
