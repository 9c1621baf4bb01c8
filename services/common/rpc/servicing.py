"""Runs a method of a servicer, a coroutine or an async generator, for one call."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import grpc

from services.common.rpc.call import Call
from services.common.rpc.context import Context
from services.common.rpc.errors import CallError
from services.common.rpc.receiver import Receiver
from services.common.rpc.states import CallState
from services.common.rpc.wire import Status

_log = logging.getLogger(__name__)

_INBOX_MESSAGES = 32
_INBOX_BYTES = 256 * 1024


class Servicing(Receiver):
    """One call of a servicer.

    Args:
        call: The call.
        handler: The method.
        tasks: Keeps the tasks that run methods.
    """

    def __init__(self, call: Call, handler: grpc.RpcMethodHandler[Any, Any], tasks: set[asyncio.Task[None]]) -> None:
        self._call = call
        self._handler = handler
        self._tasks = tasks
        self._inbox: deque[bytes] = deque()
        self._inbox_bytes = 0
        self._ended = False
        self._reading: asyncio.Future[None] | None = None
        self._writing: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        if handler.request_streaming:
            context = Context(call, handler.response_serializer, self)
            self._start(self._requests(context), context)

    def message(self, message: bytes) -> None:
        """Puts a message where the method reads it."""
        streaming = self._handler.request_streaming
        if self._inbox and not streaming:
            raise CallError(Status.UNIMPLEMENTED, "expected one request, got more")
        self._inbox.append(message)
        self._inbox_bytes += len(message)
        if not streaming:
            return
        if len(self._inbox) >= _INBOX_MESSAGES or self._inbox_bytes >= _INBOX_BYTES:
            self._call.pause()
        _wake(self._reading)

    def half_close(self) -> None:
        """Lets the method read to the end, or begins one that takes a single request."""
        self._ended = True
        if self._handler.request_streaming:
            _wake(self._reading)
            return
        if not self._inbox:
            raise CallError(Status.UNIMPLEMENTED, "expected one request, got none")
        context = Context(self._call, self._handler.response_serializer, self)
        self._start(self._request(self._inbox.popleft()), context)

    def room(self) -> None:
        """Lets the method write again."""
        _wake(self._writing)

    def cancel(self) -> None:
        """Cancels the method."""
        if self._task is not None:
            self._task.cancel()

    async def read(self) -> object:
        """Waits for the next request; `grpc.aio.EOF` after the last.

        Raises:
            CallError: If what comes is none.
        """
        while not self._inbox:
            if self._ended:
                return grpc.aio.EOF
            if self._reading is not None:
                raise grpc.aio.UsageError("expected one read at a time, got another before the last has ended")
            self._reading = asyncio.get_running_loop().create_future()
            try:
                await self._reading
            finally:
                self._reading = None
        message = self._inbox.popleft()
        self._inbox_bytes -= len(message)
        if 2 * len(self._inbox) <= _INBOX_MESSAGES and 2 * self._inbox_bytes <= _INBOX_BYTES:
            self._call.resume()
        return self._request(message)

    async def until_room(self) -> None:
        """Waits until the client has taken most of what was written."""
        while self._call.full:
            self._writing = self._writing or asyncio.get_running_loop().create_future()
            await asyncio.shield(self._writing)
            self._writing = None

    def _request(self, message: bytes) -> object:
        deserializer = self._handler.request_deserializer
        if deserializer is None:
            return message
        try:
            return deserializer(message)
        except Exception as error:
            raise CallError(Status.INTERNAL, f"expected a request of this method, got other bytes: {error}") from error

    async def _requests(self, context: Context) -> AsyncIterator[Any]:
        while (message := await context.read()) is not grpc.aio.EOF:
            yield message

    def _start(self, request: object, context: Context) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(request, context))
        self._tasks.add(self._task)
        self._task.add_done_callback(self._tasks.discard)
        self._task.add_done_callback(lambda _: context.run_done_callbacks())

    async def _run(self, request: object, context: Context) -> None:
        call = self._call
        try:
            await self._answer(request, context)
        except grpc.aio.AbortError:
            if call.state <= CallState.ANSWERING:
                call.fail(Status.INTERNAL, "the servicer raised AbortError without a call of abort()")
        except asyncio.CancelledError:
            call.abandon(CallError(Status.CANCELLED, "the servicer was cancelled"))
        except CallError as error:
            call.abandon(error)
        except Exception as error:  # noqa: BLE001 - a handler's fault ends its call and nothing else
            if call.cancelled and isinstance(error, grpc.aio.InternalError):
                # It has learnt so by its last read or write.
                return
            _log.exception("a servicer's %s failed", call.path.decode(errors="replace"))
            status = Status.UNKNOWN if context.status is Status.OK else context.status
            call.abandon(CallError(status, f"Unexpected {type(error)}: {error}", context.trailing_metadata()))

    async def _answer(self, request: object, context: Context) -> None:
        handler = self._handler
        streams = (
            "stream" if handler.request_streaming else "unary",
            "stream" if handler.response_streaming else "unary",
        )
        result = getattr(handler, "_".join(streams))(request, context)
        if not handler.response_streaming:
            context.finish(await result)
            return
        if hasattr(result, "__aiter__"):
            async for response in result:
                await context.write(response)
        else:
            await result
        context.finish()


def _wake(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)
