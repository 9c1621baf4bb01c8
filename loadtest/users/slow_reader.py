"""A client that reads its answers late."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc

from loadtest.users.base import PolicyUser
from steersman._client.messages import act_request
from steersman.aio import ActOptions, ConnectionOptions, open_channel
from steersman.errors import SteersmanError, from_rpc_error, from_status
from steersman.v1 import policy_pb2, policy_pb2_grpc

_REQUESTS = 32


class SlowReader(PolicyUser):
    """Writes requests into a stream and does not read for a while; the others must not notice.

    What is told to Locust is how long its answers took once it read them.
    """

    kind = "slow reader"

    def step(self) -> None:
        """Asks many times, pauses, and reads."""
        observation = self.source.observe()
        try:
            seconds = self.bridge.run(self._ask_and_read_late(observation))
        except SteersmanError as error:
            self.tell(0.0, _REQUESTS, error)
        else:
            self.tell(seconds, _REQUESTS)

    async def _ask_and_read_late(self, observation: Any) -> float:  # noqa: ANN401 - a sample of any space
        info = await self.client.describe()
        request = act_request(self.options.policy, observation, info, ActOptions())
        async with open_channel(ConnectionOptions((self.address,))) as channel:
            call = policy_pb2_grpc.PolicyServiceStub(channel).ActStream()
            try:
                for number in range(1, _REQUESTS + 1):
                    await call.write(policy_pb2.ActStreamRequest(id=number, request=request))
                await call.done_writing()
                await asyncio.sleep(self.options.slow_seconds)
                began = time.perf_counter()
                async for answer in call:
                    if answer.WhichOneof("result") == "error":
                        raise from_status(answer.error.code, answer.error.message)
            except grpc.aio.AioRpcError as error:
                raise from_rpc_error(error) from None
        return time.perf_counter() - began
