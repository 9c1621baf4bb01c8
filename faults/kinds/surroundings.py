"""Faults of what the system depends on, and of what it shares Ray Serve with."""

from __future__ import annotations

import asyncio
import sqlite3

from faults.fault import NOTICED_SECONDS
from faults.foreign import ForeignApplication
from faults.kinds.versions import swap_back_and_forth
from faults.system import System

_LOCKED_SECONDS = 10.0


async def lock_database(system: System) -> None:
    """Holds the database for ten seconds."""
    connection = sqlite3.connect(system.settings.var_dir / "steersman.db", isolation_level=None)
    try:
        connection.execute("BEGIN EXCLUSIVE")
        await asyncio.sleep(_LOCKED_SECONDS)  # this long, by definition
    finally:
        connection.close()
    await system.until_healthy()


async def stop_mlflow(system: System) -> None:
    """Stops MLflow while versions are swapped."""
    supervisor = system.supervisor()
    await asyncio.to_thread(supervisor.stop, "mlflow")
    try:
        await swap_back_and_forth(system)
    finally:
        await asyncio.to_thread(supervisor.start, "mlflow")


async def answer_html(system: System) -> None:
    """Has Ray's dashboard answer 200 and HTML, as a login page or a proxy does, and asks for a version meanwhile."""
    version = system.version
    with system.dashboard.answering_html():
        await system.until(lambda deployment: bool(deployment.message), NOTICED_SECONDS)
        system.version = system.next_version()
        await system.deploy(system.version, system.bundle)
    await system.until_healthy()
    system.version = version
    await system.roll_back()
    await system.until_healthy()


async def share_ray_serve(system: System) -> None:
    """Swaps versions while an application of somebody else runs on the same Ray Serve, and is used."""
    async with ForeignApplication(system.settings) as foreign, foreign.used():
        await swap_back_and_forth(system)
    await system.until_healthy()
