"""Faults of what is deployed: versions that fail, and versions that differ in more than their weights."""

from __future__ import annotations

import asyncio

from faults.fault import NOTICED_SECONDS
from faults.models import (
    write_failing_bundle,
    write_remembering_bundle,
    write_unloadable_bundle,
    write_working_bundle,
)
from faults.system import System, kill
from services.common.bundle import Bundle
from steersman.v1 import deployment_pb2

_WATCH_SECONDS = 0.02
_CANARY_ANSWERS = 200
_CANARY_SECONDS = 30.0


async def swap_back_and_forth(system: System) -> None:
    """Changes what is served, and changes it back."""
    version, system.version = system.version, system.next_version()
    await system.deploy(system.version, system.bundle)
    await system.until_healthy()
    system.version = version
    await system.roll_back()
    await system.until_healthy()


async def deploy_unloadable(system: System) -> None:
    """Deploys a version that is no model."""
    await _deploy_in_vain(system, write_unloadable_bundle(system.folder / "unloadable", like=system.bundle))


async def deploy_fatal(system: System) -> None:
    """Deploys a version that ends the process it is loaded in."""

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


async def deploy_failing(system: System) -> None:
    """Deploys a version that fails on real observations."""
    # A gateway process finds out when it has a request for the version.
    await _deploy_in_vain(system, write_failing_bundle(system.folder / "failing"), anywhere=True)


async def gain_memory(system: System) -> None:
    """Replaces the version by one with memory, splits the traffic over both, and goes back."""
    plain, system.version = system.version, system.next_version()
    remembering = system.version
    await system.deploy(remembering, write_remembering_bundle(system.folder / "remembering"))
    await system.until_healthy()
    system.version = plain
    await system.set_route({plain: 9.0, remembering: 1.0})
    for version in (plain, remembering):
        await system.until_answered_by(version, _CANARY_ANSWERS, _CANARY_SECONDS)
    await system.set_route({plain: 1.0})
    await system.until_healthy()


async def _deploy_in_vain(system: System, bundle: Bundle, *, anywhere: bool = False) -> None:
    """Deploys a version that fails, sees that it is told so, and goes back."""
    await system.deploy(system.next_version(), bundle)
    await system.until(_has_failed, NOTICED_SECONDS, anywhere=anywhere)
    await system.roll_back()
    await system.until_healthy()


def _has_failed(deployment: deployment_pb2.Deployment) -> bool:
    return deployment.state == deployment_pb2.DEPLOYMENT_STATE_FAILED
