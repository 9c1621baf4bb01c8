"""Runs direct handlers on grpcio's server, as the coroutines that it knows."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import Message

from services.common.deadlines import deadline_of
from services.common.direct import StreamCall, StreamHandler, StreamMethod, UnaryCall, UnaryMethod
from services.common.rules import Write

_log = logging.getLogger(__name__)

_Context = grpc.aio.ServicerContext[Any, Any]

_MAX_UNSENT_BYTES = 1024 * 1024
"""With so much waiting to be sent on a stream, it is not read from."""


class _Unary(UnaryCall):
    """A call whose answer a coroutine waits for."""

    __slots__ = ("answered",)

    def __init__(self, deadline: float) -> None:
        super().__init__(deadline)
        self.answered: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

    def answer(self, response: Message) -> None:
        if not self.answered.done():
            self.answered.set_result(response)

    def fail(self, error: Exception) -> None:
        if not self.answered.done():
            self.answered.set_exception(error)


def unary_coroutine(method: UnaryMethod) -> Callable[[Any, _Context], Awaitable[Message]]:
    """Makes a method that returns its answer of one that ends its call."""

    async def call(request: object, context: _Context) -> Message:
        unary = _Unary(deadline_of(context))
        method(request, unary)
        try:
            return await unary.answered
        except asyncio.CancelledError:
            # The caller hung up or its deadline passed; gRPC cancels the handler for both.
            if unary.on_cancel is not None:
                unary.on_cancel()
            raise
        finally:
            # The handler and its call know each other; without this only the garbage collector would find them.
            unary.on_cancel = None

    return call


def stream_coroutine(method: StreamMethod, write: Write) -> Callable[[object, _Context], Awaitable[None]]:
    """Makes a method that reads from its context and writes to it of one that is told what comes.

    Args:
        method: The method.
        write: Makes bytes of its answers, as they go to the context.
    """

    async def call(_requests: object, context: _Context) -> None:
        await _Stream(context, write).run(method)

    return call


class _Stream(StreamCall):
    """Reads in one task and writes in another.

    Args:
        context: The call.
        write: Makes bytes of answers.
    """

    def __init__(self, context: _Context, write: Write) -> None:
        self._context = context
        self._write = write
        self._outbox: deque[bytes] = deque()
        self._unsent_bytes = 0
        self._paused = False
        self._ended = False
        # True once reading has failed, so that requests which were read may never be answered.
        self._broken = False
        self._error: Exception | None = None
        self._news = asyncio.Event()
        self._room = asyncio.Event()

    async def run(self, method: StreamMethod) -> None:
        """Serves the stream until its handler ends it, or the client goes away."""
        handler = method(self)
        reader = asyncio.create_task(self._read(handler))
        try:
            await self._send_all()
            if self._error is not None:
                raise self._error
        except grpc.aio.InternalError as error:
            # What gRPC raises where it can no longer read or write: the client has gone, and nobody is left to tell.
            _log.debug("a stream broke: %s", error)
        finally:
            reader.cancel()
            if self._broken or not self._ended:
                self._ended = True
                handler.cancel()

    def send(self, message: Message) -> None:
        """Queues a message."""
        if self._ended:
            return
        data = self._write(message)
        self._outbox.append(data)
        self._unsent_bytes += len(data)
        self._news.set()

    def pause(self) -> None:
        """Has the reader stop after this message."""
        self._paused = True

    def resume(self) -> None:
        """Has the reader go on."""
        self._paused = False
        self._room.set()

    def end(self, error: Exception | None = None) -> None:
        """Has the writer stop once all is sent."""
        self._ended = True
        self._error = error
        self._news.set()

    async def _read(self, handler: StreamHandler) -> None:
        try:
            while (message := await self._context.read()) is not grpc.aio.EOF:
                handler.receive(message)
                while self._paused or self._unsent_bytes > _MAX_UNSENT_BYTES:
                    self._room.clear()
                    await self._room.wait()
            handler.half_close()
        except Exception as error:  # noqa: BLE001 - the writer sends what is ready and ends the call with it
            self._broken = True
            self.end(error)

    async def _send_all(self) -> None:
        outbox = self._outbox
        while True:
            while outbox:
                data = outbox.popleft()
                await self._context.write(data)
                self._unsent_bytes -= len(data)
                if self._unsent_bytes <= _MAX_UNSENT_BYTES:
                    self._room.set()
            if self._ended:
                return
            self._news.clear()
            await self._news.wait()
