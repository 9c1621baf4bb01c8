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

from faults.catalogue import FAULTS
from faults.clients import Target
from faults.fault import Fault
from faults.load import RATE, Load, LoadOptions
from faults.results import Outcome, Wanted, outcome, sentence, table, write_outcomes
from faults.system import POLICY, System, running_system
from steersman.errors import SteersmanError
from steersman.settings import settings

_REQUESTS = 10_000
_ANSWERS_AROUND = 500
"""Answers that the load gets before a fault is made, and after it is over."""

_REPEATING_SECONDS = 20.0
"""A fault is made again and again until there were requests enough; or for so long, and the load goes on alone."""

_LONGEST_SECONDS = 60.0
"""How long the load goes on alone at most."""


def main(
    fault: Annotated[list[str] | None, typer.Option(help="Only this fault; may be repeated.")] = None,
    list_faults: Annotated[bool, typer.Option("--list", help="List the faults, and make none.")] = False,
    rate: Annotated[float, typer.Option(min=1, help="Requests per second; or as many as the machine gives.")] = RATE,
    requests: Annotated[int, typer.Option(min=1, help="Requests that each fault has to see.")] = _REQUESTS,
) -> None:
    """Makes one fault after the other under load, and counts what clients noticed.

    Starts a stack of its own with two gateway processes and two replicas, which takes half a minute; each fault takes
    up to a minute. Writes var/faults.json. Exits with 1 if a request failed, there were too few, or the system did not
    recover in time; with 2 if the stack does not start.

    Example:
        python -m faults --fault replica-killed --fault ray-head-killed
    """
    # Whoever ends this ends what it has started, too.
    signal.signal(signal.SIGTERM, _interrupt)
    console = Console()
    if list_faults:
        for known in FAULTS.values():
            console.print(f"{known.name}: {known.description}", highlight=False, soft_wrap=True)
        return
    unknown = set(fault or ()) - FAULTS.keys()
    if unknown:
        raise typer.BadParameter(f"expected a fault among {', '.join(FAULTS)}, got {min(unknown)!r}")
    chosen = [known for name, known in FAULTS.items() if not fault or name in fault]
    path = settings().var_dir / "faults.json"
    outcomes: list[Outcome] = []
    with console.status("starting a stack") as status:

        def told(entry: Outcome) -> None:
            outcomes.append(entry)
            # Written each time, so that what was found is not lost if somebody ends this.
            write_outcomes(path, outcomes)
            console.print(sentence(entry), highlight=False)

        try:
            asyncio.run(_make_all(chosen, Wanted(rate, requests), status.update, told))
        except SteersmanError as error:
            console.print(f"[bold red]Error:[/] {error}", highlight=False)
            raise typer.Exit(2) from None
    console.print(table(outcomes))
    console.print(f"Written to {path}.")
    if not all(entry.holds for entry in outcomes):
        raise typer.Exit(1)


async def _make_all(
    faults: Sequence[Fault], wanted: Wanted, tell: Callable[[str], None], done: Callable[[Outcome], None]
) -> None:
    left = list(enumerate(faults, 1))
    while left:
        tell("starting a stack")
        async with running_system() as system:
            recovered = True
            # A system that did not recover from one fault says nothing of the next.
            while left and recovered:
                number, fault = left.pop(0)
                what = f"{number} of {len(faults)}: {fault.description}"

                def told(sent: int, what: str = what) -> None:
                    tell(f"{what}; {sent:,} requests")

                found = await _make(fault, system, wanted, told)
                recovered = found.recovered
                done(found)


async def _make(fault: Fault, system: System, wanted: Wanted, told: Callable[[int], None]) -> Outcome:
    """Makes one fault under load, until there were requests enough."""
    times, trouble = 0, ""
    target = Target(system.settings.gateway_address, POLICY, fault.timeout)
    async with Load(target, LoadOptions(wanted.rate, fault.hasty_timeout, fault.environment), told) as load:
        try:
            await load.until_answered(_ANSWERS_AROUND, _LONGEST_SECONDS)
            began = time.monotonic()
            while not times or (load.sent < wanted.requests and time.monotonic() < began + _REPEATING_SECONDS):
                await fault.make(system)
                times += 1
                await load.until_answered(_ANSWERS_AROUND, _LONGEST_SECONDS)
            await load.until_sent(wanted.requests, _LONGEST_SECONDS)
        except SteersmanError as error:
            trouble = str(error)
    return outcome(fault, load.report, wanted, times, trouble)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    sys.exit(1)


if __name__ == "__main__":
    typer.run(main)
