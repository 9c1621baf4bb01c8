"""GRPCInferenceService: the Open Inference Protocol's methods."""

from __future__ import annotations

import time
from importlib import metadata
from typing import Any

import grpc

from services.common.deadlines import deadline_of
from services.common.direct import StreamCall, StreamHandler, UnaryCall, direct
from services.gateway.control.actor import actor_of
from services.gateway.intake.catalogue import Catalogue
from services.gateway.intake.intake import Intake
from services.gateway.intake.resolution import Resolution
from services.gateway.intake.waiting_room import WaitingRoom
from services.gateway.requests.request import Request
from services.gateway.serving.inference import descriptions
from services.gateway.serving.inference.outputs import ResponseWriter
from services.gateway.serving.inference.parsing import address_of, parse_request
from services.gateway.serving.inference.repository import Repository
from services.gateway.serving.inference.statistics import write_statistics
from services.gateway.serving.inference.stream import InferStream
from services.gateway.serving.message_stream import OpenStreams
from services.gateway.serving.unary import submit_for
from steersman.errors import NotFoundError, SteersmanError, UnavailableError
from steersman.inference.v1 import inference_pb2, inference_pb2_grpc
from steersman.policy_names import parse_address

SERVICE_NAME = "inference.GRPCInferenceService"
"""What the protocol calls the service; our stubs have it in a package of our own."""

_EXTENSIONS = ("model_configuration", "model_repository", "parameters", "schedule_policy", "sequence", "statistics")

_WRITER = ResponseWriter(final=False)

_Context = grpc.aio.ServicerContext[Any, Any]


DESCRIPTOR = inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
"""The service, as our stubs describe it."""


class InferenceService(inference_pb2_grpc.GRPCInferenceServiceServicer):
    """Serves `inference.GRPCInferenceService`; the proto describes its methods.

    Args:
        catalogue: The policies.
        intake: Takes the requests for actions.
        waiting_room: Where who asks about a model waits for its first replica.
        repository: Lists, deploys and undeploys policies.
        session_idle_seconds: How long a session may be idle.
        streams: Keeps the streams that are open.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        intake: Intake,
        waiting_room: WaitingRoom,
        repository: Repository,
        session_idle_seconds: float,
        streams: OpenStreams,
    ) -> None:
        self._catalogue = catalogue
        self._intake = intake
        self._waiting_room = waiting_room
        self._repository = repository
        self._session_idle_seconds = session_idle_seconds
        self._version = metadata.version("steersman")
        self._streams = streams

    async def ServerLive(
        self, request: inference_pb2.ServerLiveRequest, context: _Context
    ) -> inference_pb2.ServerLiveResponse:
        """Says that the gateway lives."""
        return inference_pb2.ServerLiveResponse(live=True)

    async def ServerReady(
        self, request: inference_pb2.ServerReadyRequest, context: _Context
    ) -> inference_pb2.ServerReadyResponse:
        """Tells whether the gateway takes requests."""
        return inference_pb2.ServerReadyResponse(ready=not self._intake.closed)

    async def ModelReady(
        self, request: inference_pb2.ModelReadyRequest, context: _Context
    ) -> inference_pb2.ModelReadyResponse:
        """Tells whether a model can answer. One that is not there is not ready, which is no error."""
        try:
            self._catalogue.resolve(address_of(request.name, request.version))
        except (NotFoundError, UnavailableError):
            return inference_pb2.ModelReadyResponse(ready=False)
        return inference_pb2.ModelReadyResponse(ready=not self._intake.closed)

    async def ServerMetadata(
        self, request: inference_pb2.ServerMetadataRequest, context: _Context
    ) -> inference_pb2.ServerMetadataResponse:
        """Says what this server is."""
        return inference_pb2.ServerMetadataResponse(name="steersman", version=self._version, extensions=_EXTENSIONS)

    async def ModelMetadata(
        self, request: inference_pb2.ModelMetadataRequest, context: _Context
    ) -> inference_pb2.ModelMetadataResponse:
        """Describes a model's inputs and outputs."""
        found = await self._resolve(request, context)
        return descriptions.metadata(found.dispatcher, found.version, only=found.pinned)

    async def ModelConfig(
        self, request: inference_pb2.ModelConfigRequest, context: _Context
    ) -> inference_pb2.ModelConfigResponse:
        """Gives a model's configuration."""
        found = await self._resolve(request, context)
        config = descriptions.config(found.dispatcher, found.version, self._session_idle_seconds)
        return inference_pb2.ModelConfigResponse(config=config)

    @direct
    def ModelInfer(self, request: inference_pb2.ModelInferRequest, call: UnaryCall) -> None:  # type: ignore[override] # it ends its call itself
        """Answers one observation or one batch."""
        try:
            parsed = parse_request(request)
        except SteersmanError as error:
            self._intake.count_refusal(request.model_name, error)
            raise

        def respond(answered: Request) -> inference_pb2.ModelInferResponse:
            response = inference_pb2.ModelInferResponse()
            _WRITER.write(answered, parsed.outputs, request.id, response)
            self._intake.keep_state(answered, end=parsed.parameters.sequence_end)
            return response

        deadline = min(call.deadline, parsed.deadline(time.monotonic()))
        submit_for(call, self._intake, parsed.message, request, deadline, respond, parsed.read)

    @direct
    def ModelStreamInfer(self, call: StreamCall) -> StreamHandler:  # type: ignore[override] # likewise
        """Answers a stream of requests."""
        return InferStream(call, self._streams, self._intake)

    async def ModelStatistics(
        self, request: inference_pb2.ModelStatisticsRequest, context: _Context
    ) -> inference_pb2.ModelStatisticsResponse:
        """Gives counts and durations; of a policy that is scaled to zero, those from before."""
        now = time.monotonic()
        if request.name:
            chosen = [self._versions_of(address_of(request.name, request.version))]
        else:
            chosen = [(dispatcher.policy, list(dispatcher.versions)) for dispatcher in self._catalogue]
        return inference_pb2.ModelStatisticsResponse(
            model_stats=[
                write_statistics(policy, number, statistics.version(number), now)
                for policy, numbers in chosen
                if (statistics := self._catalogue.statistics(policy)) is not None
                for number in numbers
            ]
        )

    def _versions_of(self, address: str) -> tuple[str, list[int]]:
        """Gives a policy and its versions that an address means: those that are loaded, or else those that were."""
        try:
            found = self._catalogue.resolve(address)
        except UnavailableError:
            policy, number, _ = parse_address(address)
            statistics = self._catalogue.statistics(policy)
            counted = sorted(statistics.by_version) if statistics is not None else []
            return policy, [entry for entry in counted if number in (0, entry)]
        if found.pinned:
            return found.dispatcher.policy, [found.version.number]
        return found.dispatcher.policy, list(found.dispatcher.versions)

    async def RepositoryIndex(
        self, request: inference_pb2.RepositoryIndexRequest, context: _Context
    ) -> inference_pb2.RepositoryIndexResponse:
        """Lists what is deployed."""
        return self._repository.index(only_ready=request.ready)

    async def RepositoryModelLoad(
        self, request: inference_pb2.RepositoryModelLoadRequest, context: _Context
    ) -> inference_pb2.RepositoryModelLoadResponse:
        """Deploys a policy."""
        await self._repository.load(request, actor_of(context))
        return inference_pb2.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(
        self, request: inference_pb2.RepositoryModelUnloadRequest, context: _Context
    ) -> inference_pb2.RepositoryModelUnloadResponse:
        """Undeploys a policy."""
        await self._repository.unload(request, actor_of(context))
        return inference_pb2.RepositoryModelUnloadResponse()

    async def _resolve(
        self, request: inference_pb2.ModelMetadataRequest | inference_pb2.ModelConfigRequest, context: _Context
    ) -> Resolution:
        """Finds a model; one that is scaled to zero gets a replica for it."""
        address = address_of(request.name, request.version)
        try:
            return self._catalogue.resolve(address)
        except UnavailableError as error:
            return await self._waiting_room.until_served(
                error, address, request.ByteSize(), deadline_of(context), lambda: self._catalogue.resolve(address)
            )
