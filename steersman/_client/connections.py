"""How the steps of an exchange are carried out: over calls of their own, sync and aio."""

from __future__ import annotations

import asyncio
import time
from typing import Any, TypeVar

import grpc

from steersman._client.channels import AioChannel, open_aio_channel, open_channel
from steersman._client.exchange import Act, Describe, Exchange, LookUp, Pause, Step
from steersman._client.failures import failure, no_answer
from steersman._client.line import CLOSED
from steersman._client.options import ConnectionOptions
from steersman.errors import CancelledError, FailedPreconditionError, SteersmanError
from steersman.v1 import policy_pb2, policy_pb2_grpc

_T = TypeVar("_T")


class Connection:
    """Carries out exchanges from any thread.

    Args:
        options: Where gateways are.
    """

    def __init__(self, options: ConnectionOptions) -> None:
        self._options = options
        self._channel = open_channel(options)
        self._stub = policy_pb2_grpc.PolicyServiceStub(self._channel)

    def run(self, exchange: Exchange[_T]) -> _T:
        """Carries out an exchange.

        Raises:
            SteersmanError: If it fails.
        """
        try:
            step = next(exchange)
            while True:
                try:
                    result = self._carry_out(step)
                except SteersmanError as error:
                    step = exchange.throw(error)
                else:
                    step = exchange.send(result)
        except StopIteration as end:
            value: _T = end.value
            return value

    def close(self) -> None:
        """Closes the channel."""
        self._channel.close()

    def _carry_out(self, step: Step) -> Any:  # noqa: ANN401 - what each step gives
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        if isinstance(step, LookUp):
            return self._channel.line.has_names and self._channel.line.look_up(step.timeout)
        try:
            if isinstance(step, Act):
                return self._stub.Act(step.request, timeout=step.timeout)
            return self._stub.GetPolicy(step.request, timeout=step.timeout)
        except grpc.RpcError as error:
            raise failure(error, self._options, step.timeout) from None


class AioConnection:
    """Carries out exchanges in one event loop.

    Args:
        options: Where gateways are.

    Attributes:
        options: The same.
        stub: The gateway.
    """

    def __init__(self, options: ConnectionOptions) -> None:
        self.options = options
        self._channel = (options.open_aio_channel or open_aio_channel)(options)
        # A channel of somebody else's looks names up itself.
        self._line = self._channel.line if isinstance(self._channel, AioChannel) else None
        self.stub: policy_pb2_grpc.PolicyServiceAsyncStub = policy_pb2_grpc.PolicyServiceStub(self._channel)
        self._description: asyncio.Task[policy_pb2.GetPolicyResponse] | None = None
        self._is_closed = False

    async def run(self, exchange: Exchange[_T]) -> _T:
        """Carries out an exchange.

        Raises:
            SteersmanError: If it fails.
        """
        return await drive(exchange, self.carry_out)

    async def close(self) -> None:
        """Closes the channel."""
        self._is_closed = True
        await self._channel.close()

    async def carry_out(self, step: Step) -> Any:  # noqa: ANN401 - what each step gives
        """Carries out one step.

        Raises:
            SteersmanError: If it fails.
        """
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        if self._is_closed:
            raise FailedPreconditionError(CLOSED)
        line = self._line
        if isinstance(step, LookUp):
            return line is not None and line.has_names and await asyncio.to_thread(line.look_up, step.timeout)
        if line is not None and not line.is_ready:
            # Names are looked up in a thread, which would hold up the event loop if the call waited for it.
            await asyncio.to_thread(line.look_up, step.timeout)
        try:
            if isinstance(step, Act):
                return await self.stub.Act(step.request, timeout=step.timeout)
            return await self._described(step)
        except grpc.RpcError as error:
            raise failure(error, self.options, step.timeout) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Nobody cancelled the caller, so gRPC has cancelled the call.
            raise CancelledError("the client was closed before there was an answer") from None

    async def _described(self, step: Describe) -> policy_pb2.GetPolicyResponse:
        """Asks once for all requests that want to know at the same time, as those in flight do when versions change."""
        asked = self._description
        if asked is None or asked.done():
            # With time enough for whoever joins; each waits for as long as it has itself.
            call = self.stub.GetPolicy(step.request, timeout=max(step.timeout, self.options.timeout))
            asked = self._description = asyncio.ensure_future(call)
            # If nobody waits any more, nobody needs to know.
            asked.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            async with asyncio.timeout(step.timeout):
                return await asyncio.shield(asked)
        except TimeoutError:
            raise no_answer(self.options, step.timeout) from None


async def drive(exchange: Exchange[_T], carry_out: Any) -> _T:  # noqa: ANN401 - a coroutine function of a step
    """Carries out an exchange in an event loop.

    Args:
        exchange: The exchange.
        carry_out: Carries out one step.

    Raises:
        SteersmanError: If it fails.
    """
    try:
        step = next(exchange)
        while True:
            try:
                result = await carry_out(step)
            except SteersmanError as error:
                step = exchange.throw(error)
            else:
                step = exchange.send(result)
    except StopIteration as end:
        value: _T = end.value
        return value
