"""Runs the benchmark: `python -m bench`, or `make bench`."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console

from bench.page import html_page
from bench.plan import Plan
from bench.report import print_report
from bench.results import machine, write_results
from bench.sections import SECTIONS
from bench.targets import holds
from steersman.settings import settings


def main(
    section: Annotated[str, typer.Option(help=f"Section to run: {', '.join(SECTIONS)}.")] = "serve",
    turns: Annotated[int, typer.Option(min=1, help="How often each system has its turn.")] = 3,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long each load is measured in a turn.")] = 3.0,
    system: Annotated[list[str] | None, typer.Option(help="Only this system; may be repeated.")] = None,
    load: Annotated[list[str] | None, typer.Option(help="Only this load; may be repeated.")] = None,
    million: Annotated[bool, typer.Option("--million", help="Follow memory over a million requests too.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if a ratio is missed.")] = False,
) -> None:
    """Compares Steersman with what people would use instead, in one run on this machine.

    Writes var/bench.json and var/bench.html. Runs for about ten minutes; leave the machine alone meanwhile.
    """
    # Whoever ends the benchmark ends what it has started, too.
    signal.signal(signal.SIGTERM, _interrupt)
    console = Console(width=max(130, Console().width))
    if section not in SECTIONS:
        raise typer.BadParameter(f"expected a section among {', '.join(SECTIONS)}, got {section!r}")
    chosen = SECTIONS[section]
    plan = Plan(turns, seconds, frozenset(system or ()), frozenset(load or ()), million)
    with console.status("") as status:
        rows = chosen.run(plan, status.update)
    var_dir = settings().var_dir
    everything = write_results(var_dir / "bench.json", section, rows)
    (var_dir / "bench.html").write_text(html_page(everything, list(SECTIONS.values()), machine()))
    print_report(console, rows, chosen)
    console.print(f"Written to {var_dir / 'bench.json'} and {var_dir / 'bench.html'}.")
    if strict and any(holds(rows, target) is False for target in chosen.targets):
        raise typer.Exit(1)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    sys.exit(1)


if __name__ == "__main__":
    typer.run(main)
