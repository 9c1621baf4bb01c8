"""The calls of a client as one awaits them: one answer, or a stream of them."""

from __future__ import annotations

import asyncio
from collections import deque

from services.common.rpc.client_call import ClientCall, ClientCarrier
from services.common.rpc.errors import CallError
from services.common.rpc.wire import Status

_INBOX_MESSAGES = 1024

_UNSENT_BYTES = 64 * 1024
"""With more of a call than this waiting to be sent, whoever writes waits too."""


class UnaryCall(ClientCall):
    """A call of one request and one answer.

    Attributes:
        answer: Has the answer, or the `CallError`.
    """

    def __init__(self, connection: ClientCarrier) -> None:
        super().__init__(connection)
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._message: bytes | None = None

    def message(self, message: bytes) -> None:
        """Keeps the answer until the status has come."""
        if self._message is not None:
            self.cancel(Status.INTERNAL, "expected one answer, got more")
        self._message = message

    def ended(self) -> None:
        """Gives the answer."""
        if self.answer.done():
            return
        if self.error is not None:
            self.answer.set_exception(self.error)
        elif self._message is None:
            self.answer.set_exception(CallError(Status.INTERNAL, "expected one answer, got none"))
        else:
            self.answer.set_result(self._message)


class Stream(ClientCall):
    """A call of many messages, either way. Answers that nobody reads hold the server back."""

    def __init__(self, connection: ClientCarrier) -> None:
        super().__init__(connection)
        self._inbox: deque[bytes] = deque()
        self._news: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None

    @property
    def is_full(self) -> bool:
        """Whether so much waits to be sent that whoever writes should wait too."""
        return self._connection.http2.unsent(self._stream) > _UNSENT_BYTES

    async def room(self) -> None:
        """Waits until the server has taken most of what was sent, or the call has ended."""
        while not self.done and self.is_full:
            self._room = asyncio.get_running_loop().create_future()
            self._connection.full.add(self)
            await self._room

    async def read(self) -> bytes | None:
        """Waits for the next answer; None after the last.

        Raises:
            CallError: If the call has failed.
        """
        while not self._inbox:
            if self.done:
                if self.error is not None:
                    raise self.error
                return None
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        message = self._inbox.popleft()
        if self._unread and 2 * len(self._inbox) < _INBOX_MESSAGES:
            self.deliver()
            self.acknowledge()
            self._connection.flush_soon()
        return message

    def message(self, message: bytes) -> None:
        """Puts an answer where it is read."""
        self._inbox.append(message)
        self._wake()

    def ended(self) -> None:
        """Ends the reading, and the waiting for room."""
        self._wake()
        self.flushed()

    def flushed(self) -> None:
        """Lets whoever waits for room look again."""
        self._connection.full.discard(self)
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def acknowledge(self) -> None:
        """Lets the server send more, unless too much is unread."""
        if self.done or len(self._inbox) < _INBOX_MESSAGES:
            super().acknowledge()

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)
