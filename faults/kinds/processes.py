"""Faults of the system's own processes: they die, or hang."""

from __future__ import annotations

import asyncio
import signal

from deploy import processes
from faults.fault import NOTICED_SECONDS
from faults.system import System, kill


async def kill_replica(system: System) -> None:
    """Kills one of two replicas."""
    victim = system.replicas()[0]
    kill(victim)
    await asyncio.to_thread(processes.wait, [victim], NOTICED_SECONDS)
    await system.until_healthy()


async def stop_replica(system: System) -> None:
    """Has one of two replicas hang until the system has noticed."""
    victim = system.replicas()[0]
    kill(victim, signal.SIGSTOP)
    try:
        # A gateway process notices when it has a batch for the replica.
        await system.until(lambda deployment: deployment.replicas_ready == 1, NOTICED_SECONDS, anywhere=True)
    finally:
        kill(victim, signal.SIGCONT)
    await system.until_healthy()


async def kill_serve_controller(system: System) -> None:
    """Kills Ray Serve's controller, and a replica once there is another controller."""
    victim = system.serve_controller()
    kill(victim)
    await asyncio.to_thread(processes.wait, [victim], NOTICED_SECONDS)
    # Only a controller can do this.
    await kill_replica(system)


async def terminate_gateway_worker(system: System) -> None:
    """Stops the gateway process that has more of the clients."""
    await _end_gateway_worker(system, signal.SIGTERM)


async def kill_gateway_worker(system: System) -> None:
    """Kills the gateway process that has more of the clients."""
    await _end_gateway_worker(system, signal.SIGKILL)


async def kill_ray_head(system: System) -> None:
    """Kills every process of the Ray head."""
    victims = system.ray_head()
    for victim in victims:
        kill(victim)
    await asyncio.to_thread(processes.wait, victims, NOTICED_SECONDS)
    await system.until_healthy()


async def _end_gateway_worker(system: System, number: signal.Signals) -> None:
    victim = system.gateway_workers()[0]
    kill(victim, number)
    await asyncio.to_thread(processes.wait, [victim], NOTICED_SECONDS)
    await system.until_healthy()
