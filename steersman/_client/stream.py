"""Streams: many requests in flight over one call, each far cheaper than a call of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count
from types import TracebackType
from typing import Any, Self

import grpc
import numpy.typing as npt

from steersman import spaces
from steersman._client.channel import RETRY
from steersman._client.messages import ActOptions, Answer, PolicyInfo, act_request, read_answer
from steersman.errors import (
    DeadlineExceededError,
    InternalError,
    ResourceExhaustedError,
    SteersmanError,
    UnavailableError,
    from_rpc_error,
    from_status,
)
from steersman.v1 import policy_pb2, policy_pb2_grpc

_GREEDY = ActOptions()

_Call = grpc.aio.StreamStreamCall[policy_pb2.ActStreamRequest, policy_pb2.ActStreamResponse]


@dataclass(eq=False)
class _Request:
    """A request that has no answer yet.

    Attributes:
        message: What is sent, again and again if need be.
        answer: Gets the answer.
        call: The call that it was last sent on.
        attempts: How often it was sent.
    """

    message: policy_pb2.ActStreamRequest
    answer: asyncio.Future[policy_pb2.ActResponse]
    call: _Call | None = None
    attempts: int = 0


@dataclass(eq=False)
class _Connection:
    """One call, and the task that reads it."""

    call: _Call
    reader: asyncio.Task[None] | None = None
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)


class ActionStream:
    """A stream to a gateway, from one event loop; made by `PolicyClient.stream`.

    Requests may be made without waiting for answers: `asyncio.gather` any number of them. When the gateway stops, or
    the connection breaks, a new call is opened and what was not answered is sent again: inference is idempotent.

    Args:
        stub: The gateway.
        describe: Gives what the policy takes.
        policy: Address of the policy.
        timeout: Seconds that a request may take, repetitions included.
        validate: Whether to check that observations lie in the policy's observation space.
    """

    def __init__(
        self,
        stub: policy_pb2_grpc.PolicyServiceAsyncStub,
        describe: Callable[[], Awaitable[PolicyInfo]],
        policy: str,
        timeout: float,
        *,
        validate: bool = False,
    ) -> None:
        self._stub = stub
        self._describe = describe
        self._policy = policy
        self._timeout = timeout
        self._validate = validate
        self._ids = count(1)
        self._waiting: dict[int, _Request] = {}
        self._connection: _Connection | None = None
        self._tasks: set[asyncio.Task[None]] = set()

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
            steersman.errors.SteersmanError: See there.
        """
        seconds = self._timeout if timeout is None else timeout
        info = await self._describe()
        message = policy_pb2.ActStreamRequest(
            id=next(self._ids),
            request=act_request(self._policy, observation, info, options, reward=reward, validate=self._validate),
            timeout_milliseconds=max(1, int(seconds * 1000)),
        )
        request = _Request(message, asyncio.get_running_loop().create_future())
        self._waiting[message.id] = request
        try:
            async with asyncio.timeout(seconds):
                await self._send(request)
                return read_answer(await request.answer, info)
        except TimeoutError:
            raise DeadlineExceededError(f"expected an answer within {seconds:g} s, got none") from None
        finally:
            del self._waiting[message.id]

    async def act(
        self, observation: spaces.Sample, *, reward: npt.ArrayLike | None = None, timeout: float | None = None
    ) -> spaces.Sample:
        """Asks for the greedy action, or a batch of them; see `request`."""
        return (await self.request(observation, reward=reward, timeout=timeout)).action

    async def close(self) -> None:
        """Ends the stream; what is in flight fails with `UnavailableError`."""
        for request in self._waiting.values():
            _fail(request, UnavailableError("the stream was closed"))
        if self._connection is not None:
            self._connection.call.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _send(self, request: _Request) -> None:
        """Sends a request on the call that is open now."""
        connection = self._connection or self._open()
        request.call = connection.call
        request.attempts += 1
        try:
            async with connection.writing:
                await connection.call.write(request.message)
        except (grpc.RpcError, asyncio.InvalidStateError):
            # The reader of the call notices as well, and sends everything again that was sent on it.
            pass

    def _open(self) -> _Connection:
        connection = self._connection = _Connection(self._stub.ActStream())
        connection.reader = self._start(self._read(connection))
        return connection

    async def _read(self, connection: _Connection) -> None:
        """Reads one call to its end, then sees to what it left unanswered."""
        error: SteersmanError = UnavailableError("the gateway ended the stream")
        try:
            async for message in connection.call:
                self._take(message, connection)
        except grpc.RpcError as broken:
            error = from_rpc_error(broken)
            if isinstance(error, InternalError):
                # So says gRPC itself where a write meets a connection that has just broken. No answer is lost by asking
                # again, and what really fails does so again.
                error = UnavailableError(f"the stream broke: {error}")
        if self._connection is connection:
            self._connection = None
        for request in [request for request in self._waiting.values() if request.call is connection.call]:
            self._send_again(request, error)

    def _take(self, message: policy_pb2.ActStreamResponse, connection: _Connection) -> None:
        kind = message.WhichOneof("result")
        if kind == "goodbye":
            # What is in flight is still answered on this call; what comes next goes on another.
            if self._connection is connection:
                self._connection = None
            return
        request = self._waiting.get(message.id)
        if request is None or request.answer.done():
            return  # nobody waits for it any more
        if kind == "response":
            request.answer.set_result(message.response)
        else:
            self._send_again(request, from_status(message.error.code, message.error.message))

    def _send_again(self, request: _Request, error: SteersmanError) -> None:
        """Sends a request again after a pause, if that can help."""
        can_help = isinstance(error, (UnavailableError, ResourceExhaustedError))
        if not can_help or request.attempts >= RETRY.max_attempts:
            _fail(request, error)
            return

        async def later() -> None:
            await asyncio.sleep(RETRY.backoff(request.attempts))
            if not request.answer.done():
                await self._send(request)

        self._start(later())

    def _start(self, work: Any) -> asyncio.Task[None]:  # noqa: ANN401 - a coroutine
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _fail(request: _Request, error: SteersmanError) -> None:
    if not request.answer.done():
        request.answer.set_exception(error)
