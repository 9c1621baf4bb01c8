"""The faults. Each is made, and over when the system is as healthy as before; the load goes on all the while."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from deploy import processes
from faults.models import write_failing_bundle, write_unloadable_bundle, write_working_bundle
from faults.system import System, kill
from services.common.bundle import Bundle
from steersman.v1 import deployment_pb2

_NOTICED_SECONDS = 30.0
_LOCKED_SECONDS = 10.0
_WATCH_SECONDS = 0.02


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        name: Its name.
        description: What happens, in a line.
        make: Makes it, and returns when the system is healthy again.
        timeout: Seconds that a request of the load may take; None for the SDK's default.
        hasty_timeout: Seconds that a request of one more client may take, which may fail but not late; None for none.
        longest_gap: Seconds after which somebody must have been answered again.
    """

    name: str
    description: str
    make: Callable[[System], Awaitable[None]]
    timeout: float | None = None
    hasty_timeout: float | None = None
    longest_gap: float = 10.0


async def _kill_replica(system: System) -> None:
    victim = system.replicas()[0]
    kill(victim)
    await asyncio.to_thread(processes.wait, [victim], _NOTICED_SECONDS)
    await system.until_healthy()


async def _stop_replica(system: System) -> None:
    victim = system.replicas()[0]
    kill(victim, signal.SIGSTOP)
    try:
        # A gateway process notices when it has a batch for the replica.
        await system.until(lambda deployment: deployment.replicas_ready == 1, _NOTICED_SECONDS, anywhere=True)
    finally:
        kill(victim, signal.SIGCONT)
    await system.until_healthy()


async def _kill_serve_controller(system: System) -> None:
    victim = system.serve_controller()
    kill(victim)
    await asyncio.to_thread(processes.wait, [victim], _NOTICED_SECONDS)
    # Only a controller can do this.
    await _kill_replica(system)


async def _end_gateway_worker(system: System, number: signal.Signals) -> None:
    victim = system.gateway_workers()[0]
    kill(victim, number)
    await asyncio.to_thread(processes.wait, [victim], _NOTICED_SECONDS)
    await system.until_healthy()


async def _terminate_gateway_worker(system: System) -> None:
    await _end_gateway_worker(system, signal.SIGTERM)


async def _kill_gateway_worker(system: System) -> None:
    await _end_gateway_worker(system, signal.SIGKILL)


async def _kill_ray_head(system: System) -> None:
    victims = system.ray_head()
    for victim in victims:
        kill(victim)
    await asyncio.to_thread(processes.wait, victims, _NOTICED_SECONDS)
    await system.until_healthy()


async def _lock_database(system: System) -> None:
    connection = sqlite3.connect(system.settings.var_dir / "steersman.db", isolation_level=None)
    try:
        connection.execute("BEGIN EXCLUSIVE")
        await asyncio.sleep(_LOCKED_SECONDS)  # this long, by definition
    finally:
        connection.close()
    await system.until_healthy()


async def _stop_mlflow(system: System) -> None:
    supervisor = system.supervisor()
    await asyncio.to_thread(supervisor.stop, "mlflow")
    try:
        await _swap_back_and_forth(system)
    finally:
        await asyncio.to_thread(supervisor.start, "mlflow")


async def _swap_back_and_forth(system: System) -> None:
    """Changes what is served while something is away, and changes it back."""
    version, system.version = system.version, system.next_version()
    await system.deploy(system.version, system.bundle)
    await system.until_healthy()
    system.version = version
    await system.roll_back()
    await system.until_healthy()


async def _deploy_in_vain(system: System, bundle: Bundle, *, anywhere: bool = False) -> None:
    """Deploys a version that fails, sees that it is told so, and goes back."""
    await system.deploy(system.next_version(), bundle)
    await system.until(_has_failed, _NOTICED_SECONDS, anywhere=anywhere)
    await system.roll_back()
    await system.until_healthy()


async def _deploy_unloadable(system: System) -> None:
    await _deploy_in_vain(system, write_unloadable_bundle(system.folder / "unloadable", like=system.bundle))


async def _deploy_fatal(system: System) -> None:
    async def kill_whoever_loads_it() -> None:
        while True:
            for process in system.trials():
                kill(process)
            await asyncio.sleep(_WATCH_SECONDS)

    killing = asyncio.create_task(kill_whoever_loads_it())
    try:
        await _deploy_in_vain(system, write_working_bundle(system.folder / "fatal", seed=1))
    finally:
        killing.cancel()


async def _deploy_failing(system: System) -> None:
    # A gateway process finds out when it has a request for the version.
    await _deploy_in_vain(system, write_failing_bundle(system.folder / "failing"), anywhere=True)


def _has_failed(deployment: deployment_pb2.Deployment) -> bool:
    return deployment.state == deployment_pb2.DEPLOYMENT_STATE_FAILED


FAULTS = {
    fault.name: fault
    for fault in (
        Fault("replica-killed", "one of two replicas gets SIGKILL", _kill_replica),
        Fault("replica-hung", "one of two replicas gets SIGSTOP", _stop_replica),
        Fault("serve-controller-killed", "Ray Serve's controller gets SIGKILL, then a replica", _kill_serve_controller),
        Fault("gateway-terminated", "one of two gateway processes gets SIGTERM", _terminate_gateway_worker),
        Fault("gateway-killed", "one of two gateway processes gets SIGKILL", _kill_gateway_worker),
        Fault(
            "ray-head-killed",
            "every process of the Ray head gets SIGKILL, replicas included",
            _kill_ray_head,
            timeout=60.0,
            hasty_timeout=1.0,
            longest_gap=45.0,
        ),
        Fault("database-locked", "somebody holds the database for 10 s", _lock_database),
        Fault("mlflow-down", "MLflow is stopped while versions are swapped", _stop_mlflow),
        Fault("version-fails-to-load", "a version is deployed that is no model", _deploy_unloadable),
        Fault("version-crashes-on-load", "a version is deployed that ends the process it is loaded in", _deploy_fatal),
        Fault("version-fails-on-first-batch", "a version is deployed that fails on real observations", _deploy_failing),
    )
}
