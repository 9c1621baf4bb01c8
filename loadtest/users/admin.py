"""Somebody who swaps versions while others ask."""

from __future__ import annotations

from typing import Any

import gevent
import grpc

from loadtest.users.base import PolicyUser
from steersman.aio import ConnectionOptions, open_channel
from steersman.errors import from_rpc_error
from steersman.policy_names import parse_address
from steersman.v1 import deployment_pb2, deployment_pb2_grpc

_CALL_SECONDS = 30.0


class Admin(PolicyUser):
    """Goes back to the route before, again and again: between two versions, it swaps them each time."""

    kind = "admin"
    fixed_count = 1

    def step(self) -> None:
        """Waits a while, then swaps."""
        gevent.sleep(self.options.swap_seconds)
        self.request(self._roll_back, 0)

    async def _roll_back(self) -> Any:  # noqa: ANN401 - an empty answer
        policy = parse_address(self.options.policy).policy
        async with open_channel(ConnectionOptions((self.address,))) as channel:
            stub = deployment_pb2_grpc.DeploymentServiceStub(channel)
            try:
                await stub.Rollback(deployment_pb2.RollbackRequest(policy=policy), timeout=_CALL_SECONDS)
            except grpc.aio.AioRpcError as error:
                raise from_rpc_error(error) from None
