"""One ActStream: many requests of one client in flight, answered as they get ready."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

from services.common.direct import StreamCall
from services.common.errors import as_steersman_error, status_message
from services.gateway.intake.intake import Intake, NotServedYetError
from services.gateway.requests.request import Request
from services.gateway.serving.message_stream import MessageStream, OpenStreams
from steersman.errors import InvalidArgumentError, SteersmanError, status_number
from steersman.v1 import policy_pb2


class ActStream(MessageStream):
    """Serves one stream.

    Args:
        call: The call.
        streams: Keeps those that are open.
        intake: Takes the requests.
    """

    def __init__(self, call: StreamCall, streams: OpenStreams, intake: Intake) -> None:
        super().__init__(call, streams)
        self._intake = intake
        self._in_flight: dict[int, Request] = {}
        self._waiting: dict[int, asyncio.Task[None]] = {}

    def finish(self) -> None:
        """Says goodbye, too."""
        self.send(policy_pb2.ActStreamResponse(goodbye=policy_pb2.Goodbye()))
        self.stop_reading()

    def unanswered(self) -> int:
        """Counts those that wait for a replica, too."""
        return len(self._in_flight) + len(self._waiting)

    def abandon(self) -> None:
        """Abandons all of them."""
        for task in self._waiting.values():
            task.cancel()
        now = time.monotonic()
        for request in self._in_flight.values():
            request.abandon(now)
        # They know this stream; without this only the garbage collector would find them.
        self._in_flight.clear()

    def take(self, message: policy_pb2.ActStreamRequest) -> None:
        """Queues a request."""
        request_id = message.id
        timeout = message.timeout_milliseconds
        deadline = time.monotonic() + timeout / 1000 if timeout else math.inf

        def finished(request: Request) -> None:
            del self._in_flight[request_id]
            if request.error is not None:
                self._refuse(request_id, request.error)
                return
            answer = policy_pb2.ActStreamResponse(id=request_id)
            try:
                self._intake.respond(request, answer.response)
            except Exception as error:  # noqa: BLE001 - whatever it is, this request is answered and others go on
                self._refuse(request_id, as_steersman_error(error, "writing an answer of ActStream"))
            else:
                self.send(answer)

        if request_id in self._in_flight or request_id in self._waiting:
            raise InvalidArgumentError(f"expected an id that is not in flight on this stream, got {request_id} again")
        try:
            self._in_flight[request_id] = self._intake.submit(message.request, deadline, finished)
        except NotServedYetError as error:
            self._waiting[request_id] = asyncio.create_task(self._wait(error, message, deadline, finished))
        except SteersmanError as error:
            self.hold_back(error)
            self._refuse(request_id, error)

    async def _wait(
        self,
        error: NotServedYetError,
        message: policy_pb2.ActStreamRequest,
        deadline: float,
        finished: Callable[[Request], None],
    ) -> None:
        """Waits for the first replica of a policy; requests that do not need it go on meanwhile."""
        request = message.request
        try:
            self._in_flight[message.id] = await self._intake.submit_once_served(
                error, request, request.ByteSize(), deadline, finished
            )
        except Exception as refused:  # noqa: BLE001 - likewise
            self._refuse(message.id, as_steersman_error(refused, "waiting for a replica"))
        finally:
            del self._waiting[message.id]
            self.answered()

    def refuse(self, message: policy_pb2.ActStreamRequest, error: SteersmanError) -> None:
        """Refuses what intake has not seen, and so has not counted."""
        self._intake.count_refusal(message.request.policy, error)
        self._refuse(message.id, error)

    def shortened(
        self, answer: policy_pb2.ActStreamResponse, error: InvalidArgumentError
    ) -> policy_pb2.ActStreamResponse:
        """Gives the error with the answer's id."""
        return _refusal(answer.id, error)

    def _refuse(self, request_id: int, error: SteersmanError) -> None:
        self.send(_refusal(request_id, error))


def _refusal(request_id: int, error: SteersmanError) -> policy_pb2.ActStreamResponse:
    refusal = policy_pb2.ActStreamResponse(id=request_id)
    refusal.error.code = status_number(error)
    refusal.error.message = status_message(error)
    return refusal
