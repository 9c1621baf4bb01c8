"""PolicyService: where requests for actions enter and answers leave."""

from __future__ import annotations

from typing import Any

import grpc

from services.common.deadlines import deadline_of
from services.common.direct import StreamCall, StreamHandler, UnaryCall, direct
from services.gateway.dispatch.dispatcher import Dispatcher
from services.gateway.intake.catalogue import Catalogue
from services.gateway.intake.intake import Intake
from services.gateway.intake.waiting_room import WaitingRoom
from services.gateway.requests.request import Request
from services.gateway.serving.act_stream import ActStream
from services.gateway.serving.message_stream import OpenStreams
from services.gateway.serving.unary import submit_for
from steersman.errors import UnavailableError
from steersman.v1 import policy_pb2, policy_pb2_grpc

_Context = grpc.aio.ServicerContext[Any, Any]


class PolicyService(policy_pb2_grpc.PolicyServiceServicer):
    """Serves `steersman.v1.PolicyService`; the proto describes its methods.

    Args:
        catalogue: The policies.
        intake: Takes the requests for actions.
        waiting_room: Where who asks about a policy waits for its first replica.
        streams: Keeps the streams that are open.
    """

    def __init__(self, catalogue: Catalogue, intake: Intake, waiting_room: WaitingRoom, streams: OpenStreams) -> None:
        self._catalogue = catalogue
        self._intake = intake
        self._waiting_room = waiting_room
        self._streams = streams

    @direct
    def Act(self, request: policy_pb2.ActRequest, call: UnaryCall) -> None:  # type: ignore[override] # it ends its call itself
        """Answers one observation or one batch."""
        submit_for(call, self._intake, request, request, call.deadline, self._response)

    @direct
    def ActStream(self, call: StreamCall) -> StreamHandler:  # type: ignore[override] # likewise
        """Answers a stream of requests."""
        return ActStream(call, self._streams, self._intake)

    async def GetPolicy(self, request: policy_pb2.GetPolicyRequest, context: _Context) -> policy_pb2.GetPolicyResponse:
        """Describes one policy."""
        try:
            resolved = self._catalogue.resolve(request.policy)
        except UnavailableError as error:
            resolved = await self._waiting_room.until_served(
                error,
                request.policy,
                request.ByteSize(),
                deadline_of(context),
                lambda: self._catalogue.resolve(request.policy),
            )
        dispatcher = resolved.dispatcher
        policy = _describe(dispatcher)
        if resolved.pinned:
            only = [entry for entry in policy.versions if entry.version == resolved.version.number]
            del policy.versions[:]
            policy.versions.extend(only)
        for entry in policy.versions:
            loaded = dispatcher.versions[entry.version]
            entry.model.CopyFrom(loaded.model)
            entry.provenance.CopyFrom(loaded.provenance)
        return policy_pb2.GetPolicyResponse(policy=policy)

    async def ListPolicies(
        self, request: policy_pb2.ListPoliciesRequest, context: _Context
    ) -> policy_pb2.ListPoliciesResponse:
        """Lists the policies that have replicas."""
        return policy_pb2.ListPoliciesResponse(
            policies=[_describe(dispatcher) for dispatcher in self._catalogue if dispatcher.attachments]
        )

    def _response(self, request: Request) -> policy_pb2.ActResponse:
        response = policy_pb2.ActResponse()
        self._intake.respond(request, response)
        return response


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
        statistics=dispatcher.statistics.message(dispatcher.waiting),
    )
