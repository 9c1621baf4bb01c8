"""Runs the benchmark: `python -m bench`, or `make bench`."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console

from bench import serve_section
from bench.report import holds, html_report, print_report
from bench.results import write_results
from steersman.settings import settings


def main(
    section: Annotated[str, typer.Option(help="Section to run: serve.")] = serve_section.SECTION,
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
    if section != serve_section.SECTION:
        raise typer.BadParameter(f"expected section serve, got {section!r}")
    plan = serve_section.Plan(turns, seconds, frozenset(system or ()), frozenset(load or ()), million)
    with console.status("") as status:
        rows = serve_section.run(plan, status.update)
    var_dir = settings().var_dir
    everything = write_results(var_dir / "bench.json", section, rows)
    (var_dir / "bench.html").write_text(html_report(everything))
    print_report(console, rows)
    console.print(f"Written to {var_dir / 'bench.json'} and {var_dir / 'bench.html'}.")
    if strict and any(holds(rows, target) is False for target in serve_section.TARGETS):
        raise typer.Exit(1)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    sys.exit(1)


if __name__ == "__main__":
    typer.run(main)
