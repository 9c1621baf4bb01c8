"""A servicer that does as its requests say, behind a real server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from services.common.direct import StreamCall, StreamHandler, direct
from services.common.rules import Unreadable
from services.common.server import Service, create_server
from steersman.errors import FailedPreconditionError
from steersman.settings import Settings
from steersman.v1 import deployment_pb2, policy_pb2

MEBIBYTE = 1024 * 1024

_Context = grpc.aio.ServicerContext[Any, Any]


class Policies:
    """Answers as the policy's name says.

    Attributes:
        go_on: Lets requests go on that wait.
        waiting: How many requests wait.
    """

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.waiting = 0

    async def Act(self, request: policy_pb2.ActRequest, context: _Context) -> policy_pb2.ActResponse:  # noqa: N802
        """Answers with as many bytes as "large@N" says, waits for "wait", fails for "fault" and refuses for "no"."""
        name, _, size = request.policy.partition("@")
        if name == "large":
            return policy_pb2.ActResponse(state=bytes(int(size)))
        if name == "fault":
            raise RuntimeError("a secret of the service")
        if name == "no":
            raise FailedPreconditionError(request.session_ids[0] * int(size))
        if name == "wait":
            self.waiting += 1
            try:
                await self.go_on.wait()
            finally:
                self.waiting -= 1
        return policy_pb2.ActResponse(version=7)

    @direct
    def ActStream(self, call: StreamCall) -> StreamHandler:  # noqa: N802
        """Answers each request with its id, or says why it could not be read."""
        return _Answers(call)


class _Answers:
    def __init__(self, call: StreamCall) -> None:
        self._call = call

    def receive(self, message: policy_pb2.ActStreamRequest | Unreadable) -> None:
        answer = policy_pb2.ActStreamResponse()
        if isinstance(message, Unreadable):
            assert isinstance(message.message, policy_pb2.ActStreamRequest)
            answer.id = message.message.id
            answer.error.message = str(message.error)
        else:
            answer.id = message.id
        self._call.send(answer)

    def half_close(self) -> None:
        self._call.end()

    def cancel(self) -> None: ...


class Deployments:
    """Has one call with one answer, and one with many."""

    async def Undeploy(  # noqa: N802
        self, request: deployment_pb2.UndeployRequest, context: _Context
    ) -> deployment_pb2.UndeployResponse:
        """Does nothing."""
        return deployment_pb2.UndeployResponse()

    async def WatchDeployments(  # noqa: N802
        self, request: deployment_pb2.WatchDeploymentsRequest, context: _Context
    ) -> AsyncIterator[deployment_pb2.WatchDeploymentsResponse]:
        """Answers once, then fails for "fault" and else stays open."""
        yield deployment_pb2.WatchDeploymentsResponse()
        if request.policy == "fault":
            raise RuntimeError("a secret of the service")
        await asyncio.Event().wait()


async def refusal(call: Any) -> grpc.aio.AioRpcError:  # noqa: ANN401 - any call
    """Waits for a call to be refused."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return refused.value


@contextlib.asynccontextmanager
async def served(policies: Policies, settings: Settings | None = None) -> AsyncIterator[str]:
    """Serves both services until the block ends, and gives the address."""
    services = [
        Service(policy_pb2.DESCRIPTOR.services_by_name["PolicyService"], policies, carries_tensors=True),
        Service(deployment_pb2.DESCRIPTOR.services_by_name["DeploymentService"], Deployments()),
    ]
    server = create_server(settings or Settings(), "127.0.0.1:0", services, grace_seconds=0)
    await server.start()
    try:
        yield server.address
    finally:
        await server.stop()
