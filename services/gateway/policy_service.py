"""PolicyService: where requests for actions enter and answers leave."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import grpc

from services.common.errors import answers_errors
from services.gateway.act_stream import ActStream
from services.gateway.catalogue import Catalogue
from services.gateway.dispatcher import Dispatcher
from services.gateway.observations import read_observation
from services.gateway.requests import Request
from services.gateway.responses import write_response
from steersman.v1 import policy_pb2, policy_pb2_grpc

_Context = grpc.aio.ServicerContext[Any, Any]


class PolicyService(policy_pb2_grpc.PolicyServiceServicer):
    """Serves `steersman.v1.PolicyService`; the proto describes its methods.

    Args:
        catalogue: The policies.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    @answers_errors
    async def Act(
        self,
        request: policy_pb2.ActRequest,
        context: _Context,
    ) -> policy_pb2.ActResponse:
        """Answers one observation or one batch."""
        finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def wake(_: Request) -> None:
            if not finished.done():
                finished.set_result(None)

        waiting = submit(self._catalogue, request, wake)
        try:
            await finished
        except asyncio.CancelledError:
            # The caller hung up or its deadline passed; gRPC cancels the handler for both.
            waiting.abandon()
            raise
        if waiting.error is not None:
            raise waiting.error
        response = policy_pb2.ActResponse()
        write_response(waiting, response)
        return response

    async def ActStream(self, request_iterator: object, context: _Context) -> None:  # type: ignore[override]
        """Answers a stream of requests."""
        await ActStream(context, lambda request, wake: submit(self._catalogue, request, wake)).run()

    @answers_errors
    async def GetPolicy(
        self,
        request: policy_pb2.GetPolicyRequest,
        context: _Context,
    ) -> policy_pb2.GetPolicyResponse:
        """Describes one policy."""
        dispatcher, version, pinned = self._catalogue.resolve(request.policy)
        policy = _describe(dispatcher)
        if pinned:
            only = [entry for entry in policy.versions if entry.version == version.number]
            del policy.versions[:]
            policy.versions.extend(only)
        return policy_pb2.GetPolicyResponse(policy=policy)

    @answers_errors
    async def ListPolicies(
        self,
        request: policy_pb2.ListPoliciesRequest,
        context: _Context,
    ) -> policy_pb2.ListPoliciesResponse:
        """Lists the policies that have replicas."""
        return policy_pb2.ListPoliciesResponse(
            policies=[_describe(dispatcher) for dispatcher in self._catalogue if dispatcher.attachments]
        )


def submit(catalogue: Catalogue, message: policy_pb2.ActRequest, on_finished: Callable[[Request], None]) -> Request:
    """Checks a request and queues it.

    Args:
        catalogue: The policies.
        message: The request as it came.
        on_finished: Told when it is answered or has failed.

    Raises:
        SteersmanError: If it cannot be queued: no such policy or version, nobody to answer, or an observation that
            does not fit.
    """
    dispatcher, version, pinned = catalogue.resolve(message.policy)
    observation = read_observation(message.observation, version.observation)
    request = Request(observation, version, pinned, time.monotonic(), on_finished)
    dispatcher.submit(request)
    return request


def _describe(dispatcher: Dispatcher) -> policy_pb2.Policy:
    default = dispatcher.default_version
    versions = [
        policy_pb2.PolicyVersion(
            version=number,
            spec=version.spec,
            replicas=sum(
                number in attachment.versions and not attachment.leaving for attachment in dispatcher.attachments
            ),
        )
        for number, version in dispatcher.versions.items()
    ]
    return policy_pb2.Policy(
        name=dispatcher.policy,
        default_version=default.number if default else 0,
        versions=versions,
        replicas=len(dispatcher.attachments),
    )
