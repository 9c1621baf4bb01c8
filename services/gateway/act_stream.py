"""One ActStream: many requests of one client in flight, answered as they get ready."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import grpc

from services.gateway.requests import Request
from services.gateway.responses import write_stream_response
from steersman.errors import SteersmanError, status_number
from steersman.v1 import common_pb2, policy_pb2

MAX_UNANSWERED = 1024
"""Requests of one stream that may be without a written answer. Beyond that the gateway stops reading, so that gRPC's
flow control holds a client back that sends faster than it reads."""

Submit = Callable[[policy_pb2.ActRequest, Callable[[Request], None]], Request]
"""Queues a request, or raises a `SteersmanError`."""


class ActStream:
    """Serves one stream: reads and submits in one task, writes in another.

    Args:
        context: The call.
        submit: Queues a request.
    """

    def __init__(self, context: grpc.aio.ServicerContext[Any, Any], submit: Submit) -> None:
        self._context = context
        self._submit = submit
        self._in_flight: dict[int, Request] = {}
        self._outbox: deque[policy_pb2.ActStreamResponse] = deque()
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._half_closed = False

    async def run(self) -> None:
        """Serves the stream to its end; abandons what is in flight if the client goes away."""
        reader = asyncio.create_task(self._read())
        try:
            await self._write()
        finally:
            reader.cancel()
            for request in self._in_flight.values():
                request.abandon()

    async def _read(self) -> None:
        read = self._context.read
        try:
            while (message := await read()) is not grpc.aio.EOF:
                self._take(message)
                if len(self._in_flight) + len(self._outbox) >= MAX_UNANSWERED:
                    self._room.clear()
                    await self._room.wait()
        finally:
            self._half_closed = True
            self._news.set()

    def _take(self, message: policy_pb2.ActStreamRequest) -> None:
        request_id = message.id

        def finished(request: Request) -> None:
            del self._in_flight[request_id]
            self._outbox.append(write_stream_response(request, request_id))
            self._news.set()

        try:
            if request_id in self._in_flight:
                code = grpc.StatusCode.INVALID_ARGUMENT.value[0]
                text = f"expected an id that is not in flight on this stream, got {request_id} again"
                self._refuse(request_id, common_pb2.Status(code=code, message=text))
                return
            self._in_flight[request_id] = self._submit(message.request, finished)
        except SteersmanError as error:
            self._refuse(request_id, common_pb2.Status(code=status_number(error), message=str(error)))

    def _refuse(self, request_id: int, status: common_pb2.Status) -> None:
        self._outbox.append(policy_pb2.ActStreamResponse(id=request_id, error=status))
        self._news.set()

    async def _write(self) -> None:
        write = self._context.write
        outbox = self._outbox
        while True:
            while outbox:
                await write(outbox.popleft())
            if len(self._in_flight) < MAX_UNANSWERED:
                self._room.set()
            if self._half_closed and not self._in_flight:
                return
            self._news.clear()
            await self._news.wait()
