"""The async stream: many requests in flight over one call, each far cheaper than a call of its own."""

from __future__ import annotations

import asyncio
import itertools
from types import TracebackType
from typing import Any, Self

import numpy.typing as npt

from steersman import spaces
from steersman._client import forks
from steersman._client.connections import AioConnection, drive
from steersman._client.exchange import Act, Conversation, Step
from steersman._client.failures import no_answer
from steersman._client.messages import ActOptions, Answer
from steersman._client.stream_call import CallState, StreamCall
from steersman.errors import CancelledError, DeadlineExceededError, FailedPreconditionError, MessageTooLargeError
from steersman.v1 import policy_pb2

_GREEDY = ActOptions()
_CLOSED = "the stream was closed before there was an answer"


class ActionStream:
    """A stream to a gateway, from one event loop; made by `PolicyClient.stream`.

    When the gateway stops, or the connection breaks, another call is opened and what was not answered is sent again:
    inference is idempotent.

    Args:
        connection: To the gateway.
        conversation: What is said.
    """

    def __init__(self, connection: AioConnection, conversation: Conversation) -> None:
        self._connection = connection
        self._conversation = conversation
        self._ids = itertools.count(1)
        self._call: StreamCall | None = None
        self._calls: set[StreamCall] = set()
        self._submitted: set[asyncio.Task[Answer]] = set()
        # What requests wait for that is not on a call of the stream.
        self._steps: set[asyncio.Future[Any]] = set()
        self._in_flight = 0
        self._all_ended = asyncio.Event()
        self._is_closed = False

    def submit(
        self,
        observation: spaces.Sample,
        options: ActOptions = _GREEDY,
        *,
        reward: npt.ArrayLike | None = None,
        timeout: float | None = None,
    ) -> asyncio.Task[Answer]:
        """Asks without waiting for the answer; see `request`.

        Returns:
            The answer to come.

        Raises:
            steersman.errors.FailedPreconditionError: If the stream was closed.
        """
        self._check_open()
        task = asyncio.create_task(self.request(observation, options, reward=reward, timeout=timeout))
        self._submitted.add(task)
        task.add_done_callback(self._submitted.discard)
        return task

    async def request(
        self,
        observation: spaces.Sample,
        options: ActOptions = _GREEDY,
        *,
        reward: npt.ArrayLike | None = None,
        timeout: float | None = None,
    ) -> Answer:
        """Asks for an action, or a batch of them; see `PolicyClient.request`.

        Raises:
            steersman.errors.SteersmanError: See there; `CancelledError` if the stream is closed meanwhile, and
                `FailedPreconditionError` if it was closed before.
        """
        exchange = self._conversation.request(observation, options, reward, timeout, repeat_unavailable=True)
        self._in_flight += 1
        try:
            return await drive(exchange, self._carry_out)
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._all_ended.set()

    # What it was called in the first versions.
    ask = request

    async def act(
        self, observation: spaces.Sample, *, reward: npt.ArrayLike | None = None, timeout: float | None = None
    ) -> spaces.Sample:
        """Asks for the greedy action, or a batch of them; see `request`."""
        return (await self.request(observation, reward=reward, timeout=timeout)).action

    async def close(self) -> None:
        """Ends the stream; what is in flight fails with `CancelledError`."""
        self._is_closed = True
        for call in self._calls:
            call.end(CancelledError(_CLOSED))
        for step in self._steps:
            step.cancel()
        await asyncio.gather(*(call.until_ended() for call in self._calls))
        while self._in_flight:
            self._all_ended.clear()
            await self._all_ended.wait()
        # See `OpenChannel.methods`.
        self._call, self._calls = None, set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def _check_open(self) -> None:
        forks.check()
        if self._is_closed:
            raise FailedPreconditionError("expected an open stream, got one that was closed")

    async def _carry_out(self, step: Step) -> Any:  # noqa: ANN401 - what each step gives
        self._check_open()
        if isinstance(step, Act):
            return await self._act(step)
        waiting = asyncio.ensure_future(self._connection.carry_out(step))
        self._steps.add(waiting)
        try:
            return await waiting
        except asyncio.CancelledError:
            if waiting.cancelled() and self._is_closed:
                raise CancelledError(_CLOSED) from None
            raise
        finally:
            self._steps.discard(waiting)
            waiting.cancel()

    async def _act(self, step: Act) -> policy_pb2.ActResponse:
        message = policy_pb2.ActStreamRequest(
            id=next(self._ids), request=step.request, timeout_milliseconds=max(1, int(step.timeout * 1000))
        )
        loop = asyncio.get_running_loop()
        deadline = loop.time() + step.timeout
        try:
            async with asyncio.timeout_at(deadline):
                return await self._open_call().ask(message)
        except DeadlineExceededError:
            raise  # which is a TimeoutError too
        except TimeoutError:
            raise no_answer(self._connection.options, step.timeout) from None
        except MessageTooLargeError:
            # A request or an answer broke the call, and gRPC does not say which. On calls of their own only that one
            # fails.
            alone = Act(step.request, max(deadline - loop.time(), 1e-3))
            answered: policy_pb2.ActResponse = await self._connection.carry_out(alone)
            return answered

    def _open_call(self) -> StreamCall:
        """Gives the call that requests are sent on now, opened if need be."""
        if self._call is None or self._call.state is not CallState.OPEN:
            self._calls = {call for call in self._calls if call.state is not CallState.ENDED}
            self._call = StreamCall(self._connection.stub, self._connection.options)
            self._calls.add(self._call)
        return self._call
