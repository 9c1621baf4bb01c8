"""One ActStream: many requests of one client in flight, answered as they get ready."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import grpc

from services.gateway.intake import Intake
from services.gateway.requests import Request
from services.gateway.waiting_room import WaitingRoom
from steersman.errors import InvalidArgumentError, SteersmanError, UnavailableError, status_number
from steersman.v1 import policy_pb2

_log = logging.getLogger(__name__)

MAX_UNANSWERED = 1024
"""Requests of one stream that may be without a written answer. Beyond that the gateway stops reading, so that gRPC's
flow control holds a client back that sends faster than it reads."""


class ActStream:
    """Serves one stream: reads and submits in one task, writes in another.

    Args:
        context: The call.
        intake: Takes the requests.
        waiting_room: Where requests wait for the first replica of a policy.
    """

    def __init__(self, context: grpc.aio.ServicerContext[Any, Any], intake: Intake, waiting_room: WaitingRoom) -> None:
        self._context = context
        self._intake = intake
        self._waiting_room = waiting_room
        self._in_flight: dict[int, Request] = {}
        self._waiting: dict[int, asyncio.Task[None]] = {}
        self._outbox: deque[policy_pb2.ActStreamResponse] = deque()
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        # True once no more requests will come: the client has half-closed, or we have said goodbye.
        self._closing = False
        self._reader: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Serves the stream to its end; abandons what is in flight if the client goes away.

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
            for task in self._waiting.values():
                task.cancel()
            now = time.monotonic()
            for request in self._in_flight.values():
                request.abandon(now)

    def say_goodbye(self) -> None:
        """Reads no more; the stream ends when everything in flight is answered."""
        if self._reader is not None:
            self._reader.cancel()
        self._closing = True
        self._send(policy_pb2.ActStreamResponse(goodbye=policy_pb2.Goodbye()))

    async def _read(self) -> None:
        read = self._context.read
        try:
            while (message := await read()) is not grpc.aio.EOF:
                self._take(message)
                if self._unanswered + len(self._outbox) >= MAX_UNANSWERED:
                    self._room.clear()
                    await self._room.wait()
        finally:
            self._closing = True
            self._news.set()

    def _take(self, message: policy_pb2.ActStreamRequest) -> None:
        request_id = message.id
        timeout = message.timeout_milliseconds
        deadline = time.monotonic() + timeout / 1000 if timeout else math.inf

        def finished(request: Request) -> None:
            del self._in_flight[request_id]
            if request.error is None:
                answer = policy_pb2.ActStreamResponse(id=request_id)
                self._intake.respond(request, answer.response)
                self._send(answer)
            else:
                self._refuse(request_id, request.error)

        def submit() -> None:
            self._in_flight[request_id] = self._intake.submit(message.request, deadline, finished)

        try:
            if request_id in self._in_flight or request_id in self._waiting:
                raise InvalidArgumentError(
                    f"expected an id that is not in flight on this stream, got {request_id} again"
                )
            submit()
        except UnavailableError as error:
            if self._waiting_room.expects(message.request.policy):
                self._waiting[request_id] = asyncio.create_task(self._wait(message, deadline, error, submit))
            else:
                self._refuse(request_id, error)
        except SteersmanError as error:
            self._refuse(request_id, error)

    async def _wait(
        self,
        message: policy_pb2.ActStreamRequest,
        deadline: float,
        error: UnavailableError,
        submit: Callable[[], None],
    ) -> None:
        """Waits for the first replica of a policy; requests that do not need it go on meanwhile."""
        request = message.request
        try:
            await self._waiting_room.until_served(error, request.policy, request.ByteSize(), deadline, submit)
        except SteersmanError as refused:
            self._refuse(message.id, refused)
        finally:
            del self._waiting[message.id]
            self._news.set()

    @property
    def _unanswered(self) -> int:
        return len(self._in_flight) + len(self._waiting)

    def _refuse(self, request_id: int, error: SteersmanError) -> None:
        message = policy_pb2.ActStreamResponse(id=request_id)
        message.error.code = status_number(error)
        message.error.message = str(error)
        self._send(message)

    def _send(self, message: policy_pb2.ActStreamResponse) -> None:
        self._outbox.append(message)
        self._news.set()

    async def _write(self) -> None:
        write = self._context.write
        outbox = self._outbox
        while True:
            while outbox:
                await write(outbox.popleft())
            if self._unanswered < MAX_UNANSWERED:
                self._room.set()
            if self._closing and not self._unanswered:
                return
            self._news.clear()
            await self._news.wait()
