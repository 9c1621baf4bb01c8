"""One ModelStreamInfer: many requests of one client in flight, answered in their order.

Clients of the protocol may leave out ids, so an answer that is ready waits for those before it.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from services.common.direct import StreamCall
from services.common.errors import as_steersman_error, status_message
from services.gateway.intake.intake import Intake, NotServedYetError
from services.gateway.requests.request import Request
from services.gateway.serving.inference.outputs import ResponseWriter
from services.gateway.serving.inference.parsing import MAX_ID_BYTES, ParsedRequest, parse_request
from services.gateway.serving.message_stream import MessageStream, OpenStreams
from steersman.errors import InvalidArgumentError, SteersmanError, UnavailableError
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


class InferStream(MessageStream):
    """Serves one stream.

    Args:
        call: The call.
        streams: Keeps those that are open.
        intake: Takes the requests.
    """

    def __init__(self, call: StreamCall, streams: OpenStreams, intake: Intake) -> None:
        super().__init__(call, streams)
        self._intake = intake
        # In the order of the requests; those whose answers were sent are gone.
        self._entries: deque[_Entry] = deque()

    def finish(self) -> None:
        """Ends with UNAVAILABLE, since the protocol has no other word for it."""
        self.stop_reading(
            UnavailableError("the gateway ends this stream; what it has not answered belongs on another one")
        )

    def unanswered(self) -> int:
        """Counts those that are computed but wait for their turn, too."""
        return len(self._entries)

    def abandon(self) -> None:
        """Abandons all of them."""
        now = time.monotonic()
        for entry in self._entries:
            if entry.waiting is not None:
                entry.waiting.cancel()
            if entry.request is not None:
                entry.request.abandon(now)
        # They know this stream; without this only the garbage collector would find them.
        self._entries.clear()

    def shortened(
        self, answer: inference_pb2.ModelStreamInferResponse, error: InvalidArgumentError
    ) -> inference_pb2.ModelStreamInferResponse:
        """Gives the error with the answer's id."""
        return _refusal(answer.infer_response.id, error)

    def _new_entry(self, request: inference_pb2.ModelInferRequest) -> _Entry:
        """Takes the next place in the order of answers. It has to be answered, or all after it would wait for ever."""
        # An id that is too long is not sent back.
        entry = _Entry(request.id if len(request.id) <= MAX_ID_BYTES else "")
        self._entries.append(entry)
        return entry

    def refuse(self, request: inference_pb2.ModelInferRequest, error: SteersmanError) -> None:
        """Refuses what intake has not seen, and so has not counted."""
        self._intake.count_refusal(request.model_name, error)
        self._refuse(self._new_entry(request), error)

    def take(self, request: inference_pb2.ModelInferRequest) -> None:
        """Queues a request."""
        parsed = parse_request(request)
        deadline = parsed.deadline(time.monotonic())
        entry = self._new_entry(request)

        def finished(answered: Request) -> None:
            if answered.error is not None:
                self._refuse(entry, answered.error)
                return
            try:
                answer = inference_pb2.ModelStreamInferResponse()
                _WRITER.write(answered, parsed.outputs, entry.id, answer.infer_response)
                self._intake.keep_state(answered, end=parsed.parameters.sequence_end)
            except Exception as error:  # noqa: BLE001 - whatever it is, this request is answered and others go on
                self._refuse(entry, as_steersman_error(error, "writing an answer of ModelStreamInfer"))
            else:
                self._answer(entry, answer)

        try:
            entry.request = self._intake.submit(parsed.message, deadline, finished, parsed.read)
        except NotServedYetError as error:
            waiting = self._wait(error, entry, parsed, request.ByteSize(), deadline, finished)
            entry.waiting = asyncio.create_task(waiting)
        except Exception as error:  # noqa: BLE001 - likewise
            self.hold_back(error)
            self._refuse(entry, as_steersman_error(error, "queueing a request of ModelStreamInfer"))

    async def _wait(
        self,
        error: NotServedYetError,
        entry: _Entry,
        parsed: ParsedRequest,
        size_bytes: int,
        deadline: float,
        finished: Callable[[Request], None],
    ) -> None:
        """Waits for the first replica of a policy; requests that do not need it are computed meanwhile."""
        try:
            entry.request = await self._intake.submit_once_served(
                error, parsed.message, size_bytes, deadline, finished, parsed.read
            )
        except Exception as refused:  # noqa: BLE001 - likewise
            self._refuse(entry, as_steersman_error(refused, "waiting for a replica"))

    def _refuse(self, entry: _Entry, error: SteersmanError) -> None:
        self._answer(entry, _refusal(entry.id, error))

    def _answer(self, entry: _Entry, answer: inference_pb2.ModelStreamInferResponse) -> None:
        entry.answer = answer
        entries = self._entries
        while entries and (ready := entries[0].answer) is not None:
            entries.popleft()
            self.send(ready)


def _refusal(request_id: str, error: SteersmanError) -> inference_pb2.ModelStreamInferResponse:
    refusal = inference_pb2.ModelStreamInferResponse(error_message=status_message(error))
    refusal.infer_response.id = request_id
    return refusal
