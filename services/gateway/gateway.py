"""Puts one gateway process together."""

from __future__ import annotations

import asyncio
import time

from services.common.server import Listener, Service, create_server
from services.common.supervision import Supervisor
from services.gateway.control.deployments import Deployments
from services.gateway.control.ray_serve.client import RayServe
from services.gateway.control.registry import Registry
from services.gateway.dispatch.admission import Limits
from services.gateway.intake.catalogue import Catalogue
from services.gateway.intake.intake import Intake
from services.gateway.intake.waiting_room import WaitingRoom
from services.gateway.memory.carried_state import StateSeal
from services.gateway.memory.memory import Memory
from services.gateway.memory.sessions import SessionStore
from services.gateway.memory.state_key import read_state_key
from services.gateway.replicas.peers import Peers
from services.gateway.replicas.replica_service import ReplicaService
from services.gateway.serving.deployment_service import DeploymentService
from services.gateway.serving.inference import service as inference
from services.gateway.serving.inference.repository import Repository
from services.gateway.serving.message_stream import OpenStreams
from services.gateway.serving.policy_service import PolicyService
from services.gateway.watching.watching import Watching
from steersman.settings import Settings, port_of
from steersman.v1 import deployment_pb2, policy_pb2

_EXPIRE_SECONDS = 0.05
_ADMIN = deployment_pb2.DESCRIPTOR.services_by_name["DeploymentService"]


def replica_addresses(settings: Settings) -> list[str]:
    """Lists where replicas attach: to each process of this gateway, and to its peers."""
    base = settings.gateway_replica_address
    workers = range(settings.gateway_workers)
    if base.startswith("unix:"):
        own = [f"{base}.{worker}" if worker else base for worker in workers]
    else:
        host, _, _ = base.rpartition(":")
        own = [f"{host}:{port_of(base) + worker}" for worker in workers]
    return own + settings.gateway_peers


class Gateway:
    """One gateway process. To be made, started and stopped inside the event loop that it runs in.

    Args:
        settings: Addresses and limits.
        worker: Which of the processes on the public port this is, from 0.

    Raises:
        OSError: If an address is in use.
    """

    def __init__(self, settings: Settings, worker: int) -> None:
        loop = asyncio.get_running_loop()
        limits = Limits(settings.queue_observations, settings.queue_bytes, settings.retry_pushback_milliseconds)
        self._catalogue = Catalogue(limits, loop)
        sessions = SessionStore(settings.max_sessions, settings.session_idle_seconds)
        self._memory = memory = Memory(StateSeal(read_state_key(settings.state_key_file)), sessions)
        http_host, _, _ = settings.serve_http_address.rpartition(":")
        self._ray_serve = RayServe(
            settings.ray_dashboard_url, settings.ray_token_file, http_host, port_of(settings.serve_http_address)
        )
        self._registry = Registry(settings.mlflow_url)
        self._waiting_room = waiting_room = WaitingRoom(
            limits, settings.scale_from_zero_seconds, self._ray_serve.request_replica
        )
        intake = Intake(self._catalogue, memory, waiting_room, reject_nonfinite=settings.reject_nonfinite)
        streams = OpenStreams(settings.queue_observations, settings.gateway_connection_age_seconds)
        policies = PolicyService(self._catalogue, intake, waiting_room, streams)
        self._supervisor = Supervisor(self._problems_changed)
        self._deployments = Deployments(
            settings,
            replica_addresses(settings),
            self._ray_serve,
            self._registry,
            self._catalogue,
            waiting_room,
            self._supervisor,
        )
        addresses = replica_addresses(settings)
        peers = Peers([*addresses[:worker], *addresses[worker + 1 :]], settings.max_message_bytes)
        watching = Watching(self._catalogue, waiting_room, self._deployments, peers)
        inferences = inference.InferenceService(
            self._catalogue,
            intake,
            waiting_room,
            Repository(self._catalogue, self._deployments),
            settings.session_idle_seconds,
            streams,
        )

        def close() -> None:
            intake.close()
            streams.finish()
            watching.close()

        self._public = create_server(
            settings,
            settings.gateway_address,
            [
                Service(policy_pb2.DESCRIPTOR.services_by_name["PolicyService"], policies, carries_tensors=True),
                Service(_ADMIN, DeploymentService(self._deployments, watching)),
                Service(
                    inference.DESCRIPTOR, inferences, inference.SERVICE_NAME, reflected=False, carries_tensors=True
                ),
            ],
            on_stop=close,
            share_port=settings.gateway_workers > 1,
            connection_age_seconds=settings.gateway_connection_age_seconds,
        )
        replicas = ReplicaService(
            self._catalogue,
            waiting_room,
            addresses[worker],
            settings.max_message_bytes,
            settings.batch_timeout_seconds,
            watching.count,
            self._supervisor,
            settings.busy_poll_microseconds,
        )
        # The public server stops first: what it has taken is still computed by the replicas that are attached.
        self.servers: tuple[Listener, ...] = (self._public, replicas)

    async def run(self) -> None:
        """Does what has to be done over and over, until cancelled."""
        try:
            await asyncio.gather(
                self._deployments.follow(),
                self._supervisor.repeat("expiry of requests and sessions", self._expire),
            )
        finally:
            await self._ray_serve.close()
            await self._registry.close()

    async def _expire(self) -> None:
        """Ends what has waited for too long: requests whose deadline has passed, and sessions that nobody uses.

        Asks for a replica where requests wait and there is none.
        """
        await asyncio.sleep(_EXPIRE_SECONDS)
        self._memory.expire(time.monotonic())
        for dispatcher in self._catalogue:
            if dispatcher.waiting:
                dispatcher.expire()
                if not dispatcher.versions:
                    self._waiting_room.ask_for_replica(dispatcher.policy)

    async def _problems_changed(self) -> None:
        """Has health say whether the admin API can bring about what it is asked for; the data plane goes on."""
        self._deployments.overview.notify()
        await self._public.set_serving(_ADMIN.full_name, serving=not self._supervisor.problems)
