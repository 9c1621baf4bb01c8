"""One ModelStreamInfer: many requests of one client in flight, answered in their order.

Clients of the protocol may leave out ids, so an answer that is ready waits for those before it.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc

from services.gateway.intake.intake import Intake, NotServedYetError
from services.gateway.requests.request import Request
from services.gateway.serving.inference.outputs import ResponseWriter
from services.gateway.serving.inference.question import Question, read_question
from services.gateway.serving.message_stream import MessageStream
from steersman.errors import SteersmanError, UnavailableError
from steersman.inference.v1 import inference_pb2

_WRITER = ResponseWriter(final=True)


@dataclass(slots=True, eq=False)
class _Entry:
    """One request of the stream.

    Attributes:
        id: As the client gave it.
        request: The request, once it is queued.
        waiting: Waits for the first replica of a policy, if it has to.
        answer: The answer, once there is one.
    """

    id: str
    request: Request | None = None
    waiting: asyncio.Task[None] | None = None
    answer: inference_pb2.ModelStreamInferResponse | None = None


class InferStream:
    """Serves one stream.

    Args:
        context: The call.
        intake: Takes the requests.
    """

    def __init__(self, context: grpc.aio.ServicerContext[Any, Any], intake: Intake) -> None:
        self._stream = MessageStream(context, self._take, lambda: len(self._entries))
        self._intake = intake
        # In the order of the requests; those whose answers were sent are gone.
        self._entries: deque[_Entry] = deque()
        self._stopped = False

    async def run(self) -> None:
        """Serves the stream to its end; abandons what is in flight if the client goes away.

        Raises:
            DecodeError: If the client sent bytes that are no request; what it sent before is answered.
            UnavailableError: If the gateway stops; what it had read by then is answered.
        """
        try:
            await self._stream.run()
        finally:
            now = time.monotonic()
            for entry in self._entries:
                if entry.waiting is not None:
                    entry.waiting.cancel()
                if entry.request is not None:
                    entry.request.abandon(now)
        if self._stopped:
            raise UnavailableError("this gateway is stopping; ask another one")

    def stop(self) -> None:
        """Reads no more; the stream ends when everything in flight is answered."""
        self._stopped = True
        self._stream.stop_reading()

    def _take(self, message: inference_pb2.ModelInferRequest) -> None:
        entry = _Entry(message.id)
        self._entries.append(entry)
        try:
            question = read_question(message)
        except SteersmanError as error:
            self._intake.count_refusal(message.model_name, error)
            self._refuse(entry, error)
            return
        deadline = question.deadline(time.monotonic())

        def finished(request: Request) -> None:
            if request.error is not None:
                self._refuse(entry, request.error)
                return
            answer = inference_pb2.ModelStreamInferResponse()
            _WRITER.write(request, question.outputs, entry.id, answer.infer_response)
            self._intake.keep_state(request, end=question.parameters.sequence_end)
            self._answer(entry, answer)

        try:
            entry.request = self._intake.submit(question.message, deadline, finished, question.read)
        except NotServedYetError as error:
            waiting = self._wait(error, entry, question, message.ByteSize(), deadline, finished)
            entry.waiting = asyncio.create_task(waiting)
        except SteersmanError as error:
            self._refuse(entry, error)

    async def _wait(
        self,
        error: NotServedYetError,
        entry: _Entry,
        question: Question,
        size_bytes: int,
        deadline: float,
        finished: Callable[[Request], None],
    ) -> None:
        """Waits for the first replica of a policy; requests that do not need it are computed meanwhile."""
        try:
            entry.request = await self._intake.submit_once_served(
                error, question.message, size_bytes, deadline, finished, question.read
            )
        except SteersmanError as refused:
            self._refuse(entry, refused)

    def _refuse(self, entry: _Entry, error: SteersmanError) -> None:
        answer = inference_pb2.ModelStreamInferResponse(error_message=str(error) or error.code.name)
        answer.infer_response.id = entry.id
        self._answer(entry, answer)

    def _answer(self, entry: _Entry, answer: inference_pb2.ModelStreamInferResponse) -> None:
        entry.answer = answer
        entries = self._entries
        while entries and (ready := entries[0].answer) is not None:
            entries.popleft()
            self._stream.send(ready)
