"""The system that the faults are made in: a real stack of its own, with two gateway processes and two replicas."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc
import psutil

from deploy import processes, stack, supervision
from deploy.layout import absolute
from deploy.own_settings import own_settings
from faults.models import write_working_bundle
from services.common.bundle import Bundle
from steersman.errors import SteersmanError, UnavailableError, from_rpc_error
from steersman.settings import Settings
from steersman.v1 import deployment_pb2, deployment_pb2_grpc

POLICY = "steady"
REPLICAS = 2
WORKERS = 2

_POLL_SECONDS = 0.1
_HEALTHY_SECONDS = 120.0
_CHANNELS = 8
"""Connections that are opened to see every gateway process: the kernel picks one for each."""


class System:
    """The system while it runs.

    Args:
        settings: Its settings.
        folder: A folder for bundles.

    Attributes:
        settings: Its settings; paths are absolute.
        folder: A folder for bundles.
        bundle: The bundle that is served.
        version: The version that is served.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = absolute(settings)
        self.folder = folder
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
        """Finds the gateway processes, but for the one that watches over them."""
        return self._program("gateway").children()

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

    async def deploy(self, version: int, bundle: Bundle, replicas: int = REPLICAS) -> None:
        """Asks for a version with so many replicas, and does not wait for it.

        Raises:
            SteersmanError: If the gateway refuses.
        """
        request = deployment_pb2.DeployRequest(
            policy=POLICY, version=version, bundle_uri=str(bundle.folder), replicas=replicas
        )
        async with self._admin() as stub:
            await stub.Deploy(request, timeout=30)

    async def undeploy(self) -> None:
        """Ends the deployment."""
        async with self._admin() as stub:
            await stub.Undeploy(deployment_pb2.UndeployRequest(policy=POLICY), timeout=30)

    async def roll_back(self) -> None:
        """Goes back to the route before."""
        async with self._admin() as stub:
            await stub.Rollback(deployment_pb2.RollbackRequest(policy=POLICY), timeout=30)

    async def until(
        self, condition: Callable[[deployment_pb2.Deployment], bool], seconds: float, *, anywhere: bool = False
    ) -> None:
        """Waits until the deployment is as wanted.

        Args:
            condition: How it is wanted.
            seconds: How long to wait.
            anywhere: Whether it is enough if one gateway process sees it so; else every one has to.

        Raises:
            UnavailableError: If it is not in time.
        """
        found: list[deployment_pb2.Deployment] = []
        try:
            async with asyncio.timeout(seconds):
                while True:
                    with contextlib.suppress(SteersmanError, grpc.RpcError):
                        found = [await self._deployment() for _ in range(_CHANNELS)]
                        if (any if anywhere else all)(map(condition, found)):
                            return
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            seen = "; ".join({f"{deployment.message or deployment}" for deployment in found}) or "no gateway answers"
            raise UnavailableError(f"expected the system to recover within {seconds:g} s, but {seen}") from None

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
            if len(self.gateway_workers()) == WORKERS and len(self.replicas()) == REPLICAS:
                return
            await asyncio.sleep(_POLL_SECONDS)

    async def _deployment(self) -> deployment_pb2.Deployment:
        async with self._admin() as stub:
            response = await stub.ListDeployments(deployment_pb2.ListDeploymentsRequest(), timeout=5)
        return next(deployment for deployment in response.deployments if deployment.policy == POLICY)

    @contextlib.asynccontextmanager
    async def _admin(self) -> AsyncIterator[deployment_pb2_grpc.DeploymentServiceAsyncStub]:
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(self.settings.gateway_address, options=options) as channel:
            try:
                yield deployment_pb2_grpc.DeploymentServiceStub(channel)
            except grpc.aio.AioRpcError as error:
                raise from_rpc_error(error) from None

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
        update={"gateway_workers": WORKERS, "gateway_replica_address": f"unix:{folder / 'replicas'}"}
    )
    try:
        await asyncio.to_thread(stack.start, settings)
        system = System(settings, folder)
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
