"""One ActStream call: what is sent on it, and what comes back.

Requests are written by one task and answers read by another, so that nobody who gives up waiting takes the call with
him: gRPC ends a call whose write is cancelled.
"""

from __future__ import annotations

import asyncio
import enum
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import grpc

from steersman._client.failures import failure
from steersman._client.options import ConnectionOptions
from steersman.errors import (
    CancelledError,
    InternalError,
    SteersmanError,
    UnavailableError,
    from_status,
)
from steersman.v1 import policy_pb2, policy_pb2_grpc


class CallState(enum.Enum):
    """What may be done with a call."""

    OPEN = "requests are sent on it"
    LEAVING = "the gateway stops: what is in flight is answered, no more is sent"
    ENDED = "nothing comes any more"


_TRANSITIONS = {
    CallState.OPEN: {CallState.LEAVING, CallState.ENDED},
    CallState.LEAVING: {CallState.ENDED},
    CallState.ENDED: set(),
}


@dataclass(eq=False)
class StreamCall:
    """One call.

    Args:
        stub: The gateway.
        options: How it is spoken to.

    Attributes:
        state: What may be done with it.
    """

    stub: policy_pb2_grpc.PolicyServiceAsyncStub
    options: ConnectionOptions
    state: CallState = CallState.OPEN
    _waiting: dict[int, asyncio.Future[policy_pb2.ActResponse]] = field(default_factory=dict)
    _outbox: OrderedDict[int, policy_pb2.ActStreamRequest] = field(default_factory=OrderedDict)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        """Opens the call."""
        self._call = self.stub.ActStream()
        # Channels of somebody else's may send without a task, which comes before whatever else the loop has to do.
        self._write_now: Callable[[policy_pb2.ActStreamRequest], bool] | None = getattr(self._call, "write_now", None)
        self._writer = asyncio.create_task(self._write())
        self._reader = asyncio.create_task(self._read())

    async def ask(self, message: policy_pb2.ActStreamRequest) -> policy_pb2.ActResponse:
        """Sends a request and waits for its answer. If it is cancelled before it was sent, it is not sent.

        Raises:
            SteersmanError: What the gateway says instead of an answer, or how the call ended before there was one.
        """
        answer: asyncio.Future[policy_pb2.ActResponse] = asyncio.get_running_loop().create_future()
        self._waiting[message.id] = answer
        if self._outbox or self._write_now is None or not self._write_now(message):
            self._outbox[message.id] = message
            self._news.set()
        try:
            return await answer
        finally:
            del self._waiting[message.id]
            self._outbox.pop(message.id, None)

    def end(self, error: SteersmanError) -> None:
        """Ends the call; what is in flight fails with an error."""
        if self.state is not CallState.ENDED:
            self._become(CallState.ENDED)
            self._call.cancel()
            self._writer.cancel()
            self._fail(self._waiting, error)

    async def until_ended(self) -> None:
        """Waits until its tasks are gone."""
        await asyncio.gather(self._writer, self._reader, return_exceptions=True)

    def _become(self, state: CallState) -> None:
        if state not in _TRANSITIONS[self.state]:
            raise InternalError(f"expected a call that can become {state.name}, got one that is {self.state.name}")
        self.state = state

    def _fail(self, ids: Iterable[int], error: SteersmanError) -> None:
        for answer in [self._waiting[request_id] for request_id in ids]:
            if not answer.done():
                answer.set_exception(error)

    async def _write(self) -> None:
        try:
            while True:
                while self._outbox:
                    _, message = self._outbox.popitem(last=False)
                    await self._call.write(message)
                self._news.clear()
                await self._news.wait()
        except (grpc.RpcError, asyncio.InvalidStateError):
            pass  # the reader learns how the call has ended

    async def _read(self) -> None:
        error: SteersmanError = UnavailableError("the gateway ended the stream")
        try:
            while isinstance(message := await self._call.read(), policy_pb2.ActStreamResponse):
                self._take(message)
        except grpc.RpcError as broken:
            error = failure(broken, self.options)
            if isinstance(error, (InternalError, CancelledError)):
                # So says gRPC itself where a write meets a connection that has just broken, or a call a server that
                # shuts down. No answer is lost by asking again, and what really fails does so again.
                error = UnavailableError(f"the stream broke: {error}")
        finally:
            self.end(error)

    def _take(self, message: policy_pb2.ActStreamResponse) -> None:
        kind = message.WhichOneof("result")
        if kind == "goodbye":
            if self.state is CallState.OPEN:
                self._become(CallState.LEAVING)
                # What was not sent yet belongs on another call.
                self._fail(self._outbox, UnavailableError("the gateway stops"))
                self._outbox.clear()
            return
        answer = self._waiting.get(message.id)
        if answer is None or answer.done():
            return  # nobody waits for it any more
        if kind == "response":
            answer.set_result(message.response)
        else:
            answer.set_exception(from_status(message.error.code, message.error.message))
