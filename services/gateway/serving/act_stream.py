"""One ActStream: many requests of one client in flight, answered as they get ready."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Any

import grpc

from services.gateway.intake.intake import Intake
from services.gateway.intake.waiting_room import WaitingRoom
from services.gateway.requests.request import Request
from services.gateway.serving.message_stream import MessageStream
from steersman.errors import InvalidArgumentError, SteersmanError, UnavailableError, status_number
from steersman.v1 import policy_pb2


class ActStream:
    """Serves one stream.

    Args:
        context: The call.
        intake: Takes the requests.
        waiting_room: Where requests wait for the first replica of a policy.
    """

    def __init__(self, context: grpc.aio.ServicerContext[Any, Any], intake: Intake, waiting_room: WaitingRoom) -> None:
        self._stream = MessageStream(context, self._take, self._unanswered)
        self._intake = intake
        self._waiting_room = waiting_room
        self._in_flight: dict[int, Request] = {}
        self._waiting: dict[int, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Serves the stream to its end; abandons what is in flight if the client goes away.

        Raises:
            DecodeError: If the client sent bytes that are no request; what it sent before is answered.
        """
        try:
            await self._stream.run()
        finally:
            for task in self._waiting.values():
                task.cancel()
            now = time.monotonic()
            for request in self._in_flight.values():
                request.abandon(now)

    def say_goodbye(self) -> None:
        """Reads no more; the stream ends when everything in flight is answered."""
        self._stream.stop_reading()
        self._stream.send(policy_pb2.ActStreamResponse(goodbye=policy_pb2.Goodbye()))

    def _take(self, message: policy_pb2.ActStreamRequest) -> None:
        request_id = message.id
        timeout = message.timeout_milliseconds
        deadline = time.monotonic() + timeout / 1000 if timeout else math.inf

        def finished(request: Request) -> None:
            del self._in_flight[request_id]
            if request.error is None:
                answer = policy_pb2.ActStreamResponse(id=request_id)
                self._intake.respond(request, answer.response)
                self._stream.send(answer)
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
            self._stream.wake()

    def _unanswered(self) -> int:
        return len(self._in_flight) + len(self._waiting)

    def _refuse(self, request_id: int, error: SteersmanError) -> None:
        message = policy_pb2.ActStreamResponse(id=request_id)
        message.error.code = status_number(error)
        message.error.message = str(error)
        self._stream.send(message)
