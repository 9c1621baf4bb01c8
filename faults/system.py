"""The system that the faults are made in: a real stack of its own, with two gateway processes and two replicas."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import psutil

from deploy import processes, stack, supervision
from deploy.layout import absolute
from deploy.own_settings import own_settings
from deploy.programs import local_programs
from faults.dashboard import Dashboard
from faults.models import write_working_bundle
from services.common.bundle import Bundle
from steersman.aio import ConnectionOptions, open_channel
from steersman.errors import SteersmanError, UnavailableError, from_rpc_error
from steersman.inference.v1 import inference_pb2
from steersman.settings import Settings, port_of
from steersman.v1 import deployment_pb2, deployment_pb2_grpc

POLICY = "steady"
REPLICAS = 2
WORKERS = 2
CONNECTION_AGE_SECONDS = 30.0
"""Gateways ask clients for another connection after so long: in every fault some do that just then."""

_POLL_SECONDS = 0.1
_HEALTHY_SECONDS = 120.0
_CHANNELS = 8
"""Connections that are opened to see every gateway process: the kernel picks one for each."""


class System:
    """The system while it runs.

    Args:
        settings: Its settings.
        folder: A folder for bundles.
        dashboard: The way from the gateway to Ray's dashboard.

    Attributes:
        settings: Its settings; paths are absolute.
        folder: A folder for bundles.
        dashboard: The way from the gateway to Ray's dashboard.
        bundle: The bundle that is served.
        version: The version that is served.
    """

    def __init__(self, settings: Settings, folder: Path, dashboard: Dashboard) -> None:
        self.settings = absolute(settings)
        self.folder = folder
        self.dashboard = dashboard
        self.bundle: Bundle = write_working_bundle(folder / "working")
        self.version = 1
        self._newest = 1

    def next_version(self) -> int:
        """Gives a version that there has never been."""
        self._newest += 1
        return self._newest

    def replicas(self) -> list[psutil.Process]:
        """Finds the processes of the policy's replicas."""
        return self._named(f"ServeReplica:{POLICY}")

    def trials(self) -> list[psutil.Process]:
        """Finds the processes in which replicas try what they are to load."""
        return self._named("services.policy.trial")

    def serve_controller(self) -> psutil.Process:
        """Finds the process of Ray Serve's controller."""
        return self._named("ServeController")[0]

    def gateway_workers(self) -> list[psutil.Process]:
        """Finds the gateway processes, but for the one that watches over them; the one with the most clients first."""
        workers = self._program("gateway").children()
        return sorted(workers, key=lambda worker: len(self._sockets(worker, psutil.CONN_ESTABLISHED)), reverse=True)

    def client_ports(self) -> set[int]:
        """Gives the clients' ends of the connections to the gateway."""
        return {
            socket.raddr.port
            for worker in self.gateway_workers()
            for socket in self._sockets(worker, psutil.CONN_ESTABLISHED)
        }

    def ray_head(self) -> list[psutil.Process]:
        """Finds every process of the Ray head."""
        head = self._program("ray")
        return [head, *processes.descendants(head)]

    def supervisor(self) -> supervision.Supervisor:
        """Connects to the stack's supervisor.

        Raises:
            UnavailableError: If it does not run.
        """
        found = supervision.connect(self.settings)
        if found is None:
            raise UnavailableError("expected the stack's supervisor to run, but it does not answer")
        return found

    async def deploy(self, version: int, bundle: Bundle, replicas: int = REPLICAS, policy: str = POLICY) -> None:
        """Asks for a version with so many replicas, and does not wait for it.

        Raises:
            SteersmanError: If the gateway refuses.
        """
        request = deployment_pb2.DeployRequest(
            policy=policy, version=version, bundle_uri=str(bundle.folder), replicas=replicas
        )
        async with self._admin() as stub:
            await stub.Deploy(request, timeout=30)

    async def undeploy(self, policy: str) -> None:
        """Ends a deployment."""
        async with self._admin() as stub:
            await stub.Undeploy(deployment_pb2.UndeployRequest(policy=policy), timeout=30)

    async def roll_back(self) -> None:
        """Goes back to the route before."""
        async with self._admin() as stub:
            await stub.Rollback(deployment_pb2.RollbackRequest(policy=POLICY), timeout=30)

    async def set_route(self, weights: Mapping[int, float]) -> None:
        """Splits the traffic over versions."""
        route = deployment_pb2.Route(
            weights=[deployment_pb2.RouteWeight(version=version, weight=weight) for version, weight in weights.items()]
        )
        async with self._admin() as stub:
            await stub.SetRoute(deployment_pb2.SetRouteRequest(policy=POLICY, route=route), timeout=30)

    async def until_answered_by(self, version: int, count: int, seconds: float) -> None:
        """Waits until a version has answered so many more requests, of the gateway process that is asked first.

        Raises:
            UnavailableError: If it has not in time.
        """
        request = inference_pb2.ModelStatisticsRequest(name=POLICY, version=str(version))
        async with self._channel() as channel:
            statistics: Any = channel.unary_unary(
                "/inference.GRPCInferenceService/ModelStatistics",
                request_serializer=inference_pb2.ModelStatisticsRequest.SerializeToString,
                response_deserializer=inference_pb2.ModelStatisticsResponse.FromString,
            )
            answered, wanted = 0, None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    while wanted is None or answered < wanted:
                        (found,) = (await statistics(request)).model_stats
                        answered = found.inference_stats.success.count
                        wanted = answered + count if wanted is None else wanted
                        await asyncio.sleep(_POLL_SECONDS)
                    return
        raise UnavailableError(
            f"expected {count} more answers of version {version} within {seconds:g} s, but {answered}"
        )

    async def until(
        self,
        condition: Callable[[deployment_pb2.Deployment], bool],
        seconds: float,
        *,
        anywhere: bool = False,
        policy: str = POLICY,
    ) -> None:
        """Waits until a deployment is as wanted.

        Args:
            condition: How it is wanted.
            seconds: How long to wait.
            anywhere: Whether it is enough if one gateway process sees it so; else every one has to.
            policy: Whose deployment.

        Raises:
            UnavailableError: If it is not in time.
        """
        found: list[deployment_pb2.Deployment] = []
        try:
            async with asyncio.timeout(seconds):
                while True:
                    with contextlib.suppress(SteersmanError, grpc.RpcError):
                        found = [await self._deployment(policy) for _ in range(_CHANNELS)]
                        if (any if anywhere else all)(map(condition, found)):
                            return
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            seen = "; ".join({f"{deployment.message or deployment}" for deployment in found}) or "no gateway answers"
            raise UnavailableError(f"expected the system to recover within {seconds:g} s, but {seen}") from None

    async def until_ready(self, policy: str) -> None:
        """Waits until every gateway process has every replica of another policy.

        Raises:
            UnavailableError: If that takes too long.
        """

        def is_ready(deployment: deployment_pb2.Deployment) -> bool:
            return deployment.state == deployment_pb2.DEPLOYMENT_STATE_READY

        await self.until(is_ready, _HEALTHY_SECONDS, policy=policy)

    async def until_healthy(self) -> None:
        """Waits until every gateway process has every replica with the version that is served.

        Raises:
            UnavailableError: If that takes too long.
        """

        def is_healthy(deployment: deployment_pb2.Deployment) -> bool:
            return (
                deployment.state == deployment_pb2.DEPLOYMENT_STATE_READY
                and deployment.version == self.version
                and deployment.replicas_ready == REPLICAS
            )

        while True:
            await self.until(is_healthy, _HEALTHY_SECONDS)
            # Only a gateway process that listens can have been asked.
            listening = [worker for worker in self.gateway_workers() if self._sockets(worker, psutil.CONN_LISTEN)]
            if len(listening) == WORKERS and len(self.replicas()) == REPLICAS:
                return
            await asyncio.sleep(_POLL_SECONDS)

    async def _deployment(self, policy: str) -> deployment_pb2.Deployment:
        async with self._admin() as stub:
            response = await stub.ListDeployments(deployment_pb2.ListDeploymentsRequest(), timeout=5)
        return next(deployment for deployment in response.deployments if deployment.policy == policy)

    def _channel(self) -> grpc.aio.Channel:
        """Opens a connection of its own, for which the kernel picks a gateway process."""
        return open_channel(ConnectionOptions((self.settings.gateway_address,), own_connections=True))

    @contextlib.asynccontextmanager
    async def _admin(self) -> AsyncIterator[deployment_pb2_grpc.DeploymentServiceAsyncStub]:
        async with self._channel() as channel:
            try:
                yield deployment_pb2_grpc.DeploymentServiceStub(channel)
            except grpc.aio.AioRpcError as error:
                raise from_rpc_error(error) from None

    def _sockets(self, worker: psutil.Process, status: str) -> list[Any]:
        """Lists the sockets that a gateway process has at the clients' address."""
        port = port_of(self.settings.gateway_address)
        with contextlib.suppress(psutil.Error):
            found = worker.net_connections("inet")
            return [socket for socket in found if socket.status == status and socket.laddr.port == port]
        return []

    def _program(self, name: str) -> psutil.Process:
        found = next(program for program in self.supervisor().processes() if program.name == name)
        if found.pid is None:
            raise UnavailableError(f"expected {name} to run, but it is {found.state}")
        return psutil.Process(found.pid)

    def _named(self, words: str) -> list[psutil.Process]:
        found = []
        for process in processes.descendants(self._program("ray")):
            with contextlib.suppress(psutil.Error):
                if words in " ".join(process.cmdline()) and processes.is_alive(process):
                    found.append(process)
        return found


@contextlib.asynccontextmanager
async def running_system() -> AsyncIterator[System]:
    """Starts a stack on free ports with the policy deployed, and stops it when the block ends.

    Raises:
        SteersmanError: If it does not start.
    """
    # Unix sockets need short paths.
    folder = Path(tempfile.mkdtemp(prefix="sm-", dir="/tmp"))
    own = own_settings(folder / "v")
    settings = own.model_copy(
        update={
            "gateway_workers": WORKERS,
            "gateway_replica_address": f"unix:{folder / 'replicas'}",
            "gateway_connection_age_seconds": CONNECTION_AGE_SECONDS,
        }
    )
    url = urlsplit(own.ray_dashboard_url)
    assert url.hostname is not None and url.port is not None  # noqa: S101, PT018 - it is one of our own
    dashboard = Dashboard(url.hostname, url.port)
    try:
        async with dashboard.listening() as dashboard_url:
            programs = [
                replace(program, environment={**program.environment, "STEERSMAN_RAY_DASHBOARD_URL": dashboard_url})
                if program.name == "gateway"
                else program
                for program in local_programs(absolute(settings))
            ]
            await asyncio.to_thread(stack.start, settings, programs)
            system = System(settings, folder, dashboard)
            await system.deploy(system.version, system.bundle)
            await system.until_healthy()
            yield system
    finally:
        await asyncio.to_thread(stack.stop, settings)
        shutil.rmtree(folder, ignore_errors=True)


def kill(process: psutil.Process, number: signal.Signals = signal.SIGKILL) -> None:
    """Sends a signal to a process that may just have ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(number)
