"""Makes faults: `python -m faults`, or `make faults`."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console

from faults.catalogue import FAULTS, Fault
from faults.load import Load
from faults.results import Outcome, outcome, table, write_outcomes
from faults.system import POLICY, System, running_system
from steersman.errors import SteersmanError
from steersman.settings import settings

_ANSWERS_AROUND = 100
"""Answers that the load gets before a fault is made, and after it is over."""


def main(
    fault: Annotated[list[str] | None, typer.Option(help="Only this fault; may be repeated.")] = None,
    list_faults: Annotated[bool, typer.Option("--list", help="List the faults, and make none.")] = False,
) -> None:
    """Makes one fault after the other under load, and counts what clients noticed.

    Starts a stack of its own with two gateway processes and two replicas, which takes half a minute; each fault takes
    up to a minute. Writes var/faults.json. Exits with 1 if a request failed or the system did not recover in time.

    Example:
        python -m faults --fault replica-killed --fault ray-head-killed
    """
    # Whoever ends this ends what it has started, too.
    signal.signal(signal.SIGTERM, _interrupt)
    console = Console()
    if list_faults:
        for known in FAULTS.values():
            console.print(f"{known.name}: {known.description}", highlight=False)
        return
    unknown = set(fault or ()) - FAULTS.keys()
    if unknown:
        raise typer.BadParameter(f"expected a fault among {', '.join(FAULTS)}, got {min(unknown)!r}")
    chosen = [known for name, known in FAULTS.items() if not fault or name in fault]
    with console.status("") as status:
        outcomes = asyncio.run(_make_all(chosen, status.update))
    path = settings().var_dir / "faults.json"
    write_outcomes(path, outcomes)
    console.print(table(outcomes))
    for entry in outcomes:
        for reason in entry.reasons:
            console.print(f"[bold red]{entry.name}[/]: {reason}", highlight=False)
    console.print(f"Written to {path}.")
    if not all(entry.holds for entry in outcomes):
        raise typer.Exit(1)


async def _make_all(faults: Sequence[Fault], tell: Callable[[str], None]) -> list[Outcome]:
    outcomes = []
    tell("starting a stack")
    async with running_system() as system:
        for number, fault in enumerate(faults, 1):
            tell(f"{number} of {len(faults)}: {fault.description}")
            outcomes.append(await _make(fault, system))
    return outcomes


async def _make(fault: Fault, system: System) -> Outcome:
    """Makes one fault under load."""
    trouble = ""
    began = time.monotonic()
    async with Load(POLICY, system.settings.gateway_address, fault.timeout, fault.hasty_timeout) as load:
        await load.until_answered(_ANSWERS_AROUND)
        try:
            await fault.make(system)
            await load.until_answered(_ANSWERS_AROUND)
        except SteersmanError as error:
            trouble = str(error)
    return outcome(fault, load, time.monotonic() - began, trouble)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    sys.exit(1)


if __name__ == "__main__":
    typer.run(main)
