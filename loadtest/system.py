"""A stack of its own for a load test, with one policy between two numbers of replicas."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil

from deploy import processes, stack, supervision
from deploy.layout import absolute
from deploy.own_settings import own_settings
from services.common.bundle import Bundle
from steersman.client import open_channel
from steersman.errors import UnavailableError, from_rpc_error
from steersman.settings import Settings
from steersman.v1 import deployment_pb2, deployment_pb2_grpc

_READY_SECONDS = 120.0
_POLL_SECONDS = 0.3
_LOOK_BACK_SECONDS = 20.0
"""How long a need for replicas is remembered: a third of the default, so that minutes show both ways."""

_TARGET_SHARE = 0.5
"""Less than the default, since replicas share the machine with the gateway and with the load generator."""


@dataclass(frozen=True)
class LoadedSystem:
    """The stack while it runs.

    Attributes:
        settings: Its settings.
        policy: The policy that is deployed.
    """

    settings: Settings
    policy: str

    def replicas(self) -> list[psutil.Process]:
        """Finds the processes of the policy's replicas."""
        return [process for name, process in self.processes().items() if name.startswith("replica")]

    def processes(self) -> dict[str, psutil.Process]:
        """Finds the processes that requests pass through, by what they are."""
        supervisor = supervision.connect(self.settings)
        programs = {} if supervisor is None else {program.name: program.pid for program in supervisor.processes()}
        found: dict[str, psutil.Process] = {}
        with contextlib.suppress(psutil.Error):
            if pid := programs.get("gateway"):
                gateway = psutil.Process(pid)
                for number, process in enumerate([gateway, *gateway.children()]):
                    found[f"gateway {number}"] = process
        with contextlib.suppress(psutil.Error):
            if pid := programs.get("ray"):
                replicas = [each for each in processes.descendants(psutil.Process(pid)) if self._is_replica(each)]
                for number, process in enumerate(replicas):
                    found[f"replica {number}"] = process
        return found

    def _is_replica(self, process: psutil.Process) -> bool:
        with contextlib.suppress(psutil.Error):
            return f"ServeReplica:{self.policy}" in " ".join(process.cmdline())
        return False


@contextlib.contextmanager
def loaded_system(
    write: Callable[[Path], Bundle],
    policy: str,
    replicas: tuple[int, int],
    *,
    gateway_workers: int = 1,
) -> Iterator[LoadedSystem]:
    """Starts a stack on free ports, deploys a policy, and stops the stack when the block ends.

    Args:
        write: Writes the policy's bundle into a folder.
        policy: Its name.
        replicas: The fewest and the most.
        gateway_workers: Processes of the gateway.

    Raises:
        SteersmanError: If it does not start.
    """
    # Unix sockets need short paths.
    folder = Path(tempfile.mkdtemp(prefix="sl-", dir="/tmp"))
    settings = own_settings(folder / "v").model_copy(
        update={
            "gateway_workers": gateway_workers,
            "gateway_replica_address": f"unix:{folder / 'replicas'}",
            "autoscaling_look_back_seconds": _LOOK_BACK_SECONDS,
            "autoscaling_target_share": _TARGET_SHARE,
        }
    )
    try:
        stack.start(settings)
        bundle = write(folder / policy)
        _deploy(settings, policy, bundle, replicas)
        yield LoadedSystem(absolute(settings), policy)
    finally:
        stack.stop(settings)
        shutil.rmtree(folder, ignore_errors=True)


def _deploy(settings: Settings, policy: str, bundle: Bundle, replicas: tuple[int, int]) -> None:
    """Deploys a policy and waits until it is ready.

    Raises:
        SteersmanError: If the gateway refuses, or that takes too long.
    """
    fewest, most = replicas
    request = deployment_pb2.DeployRequest(
        policy=policy, version=1, bundle_uri=str(bundle.folder), min_replicas=fewest, max_replicas=most
    )
    with open_channel(settings.connection(settings.gateway_address)) as channel:
        stub = deployment_pb2_grpc.DeploymentServiceStub(channel)
        try:
            stub.Deploy(request, timeout=30)
            deadline = time.monotonic() + _READY_SECONDS
            while True:
                (deployment,) = stub.ListDeployments(deployment_pb2.ListDeploymentsRequest(), timeout=30).deployments
                if deployment.state == deployment_pb2.DEPLOYMENT_STATE_READY:
                    return
                if time.monotonic() > deadline or deployment.state == deployment_pb2.DEPLOYMENT_STATE_FAILED:
                    raise UnavailableError(f"expected {policy} to be ready, but {deployment.message}")
                time.sleep(_POLL_SECONDS)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from None
