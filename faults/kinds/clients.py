"""Faults that other clients bring: they vanish, ask for much at once, or send what no honest one sends."""

from __future__ import annotations

import asyncio
import sys

from faults.models import write_wide_bundle
from faults.system import CONNECTION_AGE_SECONDS, POLICY, System
from steersman.errors import InternalError

_VANISHING_PROCESSES = 4
_VANISHING_CLIENTS = 50
"""Clients in each of the processes."""

_SECONDS = 120.0
_POLL_SECONDS = 0.2
_WIDE = "wide"


async def grow_old(system: System) -> None:
    """Waits until every connection that there is has been replaced, since the gateway limits their age."""
    old = system.client_ports()
    # Half as much again is when a gateway that wants to be rid of a connection has cut it off.
    seconds = 3 * CONNECTION_AGE_SECONDS
    kept = old
    try:
        async with asyncio.timeout(seconds):
            while True:
                kept &= system.client_ports()
                if not kept:
                    return
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError:
        raise InternalError(
            f"expected {len(old)} connections to be replaced within {seconds:g} s, but {len(kept)} of them are not"
        ) from None


async def vanish(system: System) -> None:
    """Kills 200 clients in the middle of their streams."""
    address = system.settings.gateway_address
    arguments = (address, POLICY, str(_VANISHING_CLIENTS))
    await asyncio.gather(*(_run("vanishing", *arguments, status=-9) for _ in range(_VANISHING_PROCESSES)))
    await system.until_healthy()


async def ask_for_much(system: System) -> None:
    """Sends 300 requests of 780 KiB at once to another policy."""
    await system.deploy(1, write_wide_bundle(system.folder / _WIDE), replicas=1, policy=_WIDE)
    try:
        await system.until_ready(_WIDE)
        await _run("large", system.settings.gateway_address, _WIDE)
    finally:
        await system.undeploy(_WIDE)
    await system.until_healthy()


async def send_what_is_refused(system: System) -> None:
    """Sends hostile requests."""
    await _run("hostile", system.settings.gateway_address, POLICY)
    await system.until_healthy()


async def _run(neighbour: str, *arguments: str, status: int = 0) -> None:
    """Runs one of `faults.neighbours` to its end.

    Raises:
        InternalError: If it ends with another exit status.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"faults.neighbours.{neighbour}", *arguments, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(_SECONDS):
            _, errors = await process.communicate()
    except TimeoutError:
        process.kill()
        raise InternalError(f"expected the clients of {neighbour} to end within {_SECONDS:g} s") from None
    if process.returncode != status:
        lines = errors.decode(errors="replace").strip().splitlines()
        raise InternalError(lines[-1] if lines else f"the clients of {neighbour} ended with {process.returncode}")
