"""A client of the Open Inference Protocol's stream that does what the protocol lets a client do when a stream ends."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from types import TracebackType
from typing import Any, Self

import grpc

from steersman.client import RetryPolicy
from steersman.errors import DeadlineExceededError, SteersmanError, UnavailableError, from_rpc_error
from steersman.inference.v1 import inference_pb2

_RETRY = RetryPolicy()


@dataclass(eq=False)
class _Request:
    """A request that has no answer yet, and on how many streams it was sent."""

    message: bytes
    answer: asyncio.Future[inference_pb2.ModelInferResponse]
    attempts: int = 0


class InferStream:
    """Requests over `ModelStreamInfer`, from one event loop; a context manager.

    An answer with an `error_message` fails its request: the protocol has no status from which a client could tell
    whether asking again helps. When a stream ends, another one is opened after a pause, and what has no answer is sent
    again on that, on five streams at the most.

    Args:
        open_call: Opens the call, which takes and gives bytes.
    """

    def __init__(self, open_call: Callable[[], Any]) -> None:
        self._open_call = open_call
        self._ids = count(1)
        self._waiting: dict[str, _Request] = {}
        self._outbox: deque[_Request] = deque()
        self._news = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._serving = asyncio.create_task(self._serve())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._serving.cancel()
        await asyncio.gather(self._serving, return_exceptions=True)

    async def ask(self, message: inference_pb2.ModelInferRequest, timeout: float) -> inference_pb2.ModelInferResponse:
        """Asks once.

        Args:
            message: The request; it is given an id.
            timeout: Seconds that this may take, repetitions included.

        Raises:
            SteersmanError: If there is no answer.
        """
        message.id = number = str(next(self._ids))
        request = _Request(message.SerializeToString(), asyncio.get_running_loop().create_future())
        self._waiting[number] = request
        self._outbox.append(request)
        self._news.set()
        try:
            async with asyncio.timeout(timeout):
                return await request.answer
        except TimeoutError:
            raise DeadlineExceededError(f"expected an answer within {timeout:g} s, got none") from None
        finally:
            del self._waiting[number]

    async def _serve(self) -> None:
        """Has a stream open, and another one when it ends."""
        fruitless = 0
        while True:
            call = self._open_call()
            writing = asyncio.create_task(self._write(call))
            try:
                answers, error = await self._read(call)
            finally:
                call.cancel()
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)
            fruitless = 0 if answers else fruitless + 1
            await asyncio.sleep(_RETRY.backoff(fruitless + 1))
            for request in self._waiting.values():
                if request.attempts >= _RETRY.max_attempts and not request.answer.done():
                    request.answer.set_exception(error)
            self._outbox = deque(self._waiting.values())

    async def _write(self, call: Any) -> None:  # noqa: ANN401 - grpc.aio's call
        while True:
            while self._outbox:
                request = self._outbox.popleft()
                if not request.answer.done():
                    request.attempts += 1
                    await call.write(request.message)
            self._news.clear()
            await self._news.wait()

    async def _read(self, call: Any) -> tuple[int, SteersmanError]:  # noqa: ANN401 - grpc.aio's call
        """Reads a stream to its end; gives how many answers came, and how it ended."""
        answers = 0
        try:
            while (data := await call.read()) is not grpc.aio.EOF:
                answers += 1
                self._take(inference_pb2.ModelStreamInferResponse.FromString(data))
            return answers, UnavailableError(f"the stream ended with {await call.code()}: {await call.details()}")
        except grpc.RpcError as error:
            return answers, from_rpc_error(error)

    def _take(self, message: inference_pb2.ModelStreamInferResponse) -> None:
        request = self._waiting.get(message.infer_response.id)
        if request is None or request.answer.done():
            return  # nobody waits for it any more
        if message.error_message:
            request.answer.set_exception(SteersmanError(message.error_message))
        else:
            request.answer.set_result(message.infer_response)
