"""Load tests: `python -m loadtest run`, or `make loadtest`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console

from loadtest.objectives import FILE, read_objectives
from loadtest.options import SHAPE_VARIABLE, LoadOptions
from loadtest.page import html_page
from loadtest.report import levels_table, verdicts_table, write_report
from loadtest.scenarios import SCENARIOS, Scope
from loadtest.shapes import NAMES as SHAPES
from steersman.errors import SteersmanError
from steersman.settings import settings

app = typer.Typer(no_args_is_help=True, help="Load tests with Locust; see docs/load-testing.md.")


@app.command()
def run(
    scenario: Annotated[str, typer.Option(help=f"What happens: {', '.join(SCENARIOS)}.")] = "autoscaling",
    users: Annotated[int, typer.Option(min=0, help="Users at the most; 0: the scenario's own number.")] = 0,
    duration: Annotated[float, typer.Option(min=10, help="Seconds that a soak lasts.")] = 600.0,
    rate: Annotated[float, typer.Option(min=0, help="Requests per second of a paced user; 0: the scenario's own.")] = 0,
    objectives: Annotated[Path, typer.Option(help="What has to hold.")] = FILE,
    host: Annotated[
        str, typer.Option(help="A gateway, instead of a stack of its own; only for the scenario knee.")
    ] = "",
    policy: Annotated[str, typer.Option(help="The policy to ask there.")] = LoadOptions.policy,
    environment: Annotated[str, typer.Option(help="The environment that users step there.")] = LoadOptions.environment,
    web: Annotated[int, typer.Option(min=0, help="Port for Locust's web page meanwhile; 0: none.")] = 0,
    output: Annotated[Path | None, typer.Option(help="Folder for the report. Default: var/loadtest.")] = None,
) -> None:
    """Runs a scenario, judges it, and writes report.json and report.html. Exits with 1 if an objective was missed.

    Example:
        python -m loadtest run --scenario chaos
    """
    # Whoever ends this ends what it has started, too.
    signal.signal(signal.SIGTERM, _interrupt)
    console = Console()
    if scenario not in SCENARIOS:
        raise typer.BadParameter(f"expected a scenario among {', '.join(SCENARIOS)}, got {scenario!r}")
    chosen = SCENARIOS[scenario]
    if host and not chosen.takes_address:
        raise typer.BadParameter(f"expected no --host for {scenario}, which starts and breaks a stack of its own")
    options = LoadOptions(policy=policy, environment=environment, rate=rate or LoadOptions.rate)
    scope = Scope(read_objectives(scenario, objectives), users, duration, rate, web, host, options)
    try:
        with console.status("") as status:
            reports = chosen.run(chosen, scope, status.update)
    except SteersmanError as error:
        console.print(f"[bold red]Error:[/] {error}", highlight=False)
        raise typer.Exit(2) from None
    folder = output or settings().var_dir / "loadtest"
    paths = write_report(folder, reports, html_page(reports))
    for report in reports:
        console.print(levels_table(report))
        for name, fact in report.facts.items():
            console.print(f"{name}: {fact}", highlight=False)
        if report.verdicts:
            console.print(verdicts_table(report))
    console.print(f"Written to {' and '.join(map(str, paths))}.", highlight=False, soft_wrap=True)
    if not all(report.holds for report in reports):
        raise typer.Exit(1)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def web(
    context: typer.Context,
    shape: Annotated[str, typer.Option(help=f"How many users there are over time: {', '.join(SHAPES)}.")] = "",
    shape_users: Annotated[int, typer.Option(min=1, help="Users of the shape, at the most.")] = 20,
    shape_seconds: Annotated[float, typer.Option(min=1, help="How long all of the shape lasts.")] = 600.0,
) -> None:
    """Runs Locust itself, with its web page on :8089, and these users; the other options are Locust's.

    Examples:
        python -m loadtest web --host 127.0.0.1:50051 --policy cartpole StreamingActor

        python -m loadtest web --headless --users 20 --run-time 1m --processes 2 --csv var/loadtest/stats UnaryActor

        python -m loadtest web --shape sine --shape-users 50 --shape-seconds 600 Robot
    """
    locustfile = Path(__file__).with_name("locustfile.py")
    variables = {"LOCUST_SKIP_MONKEY_PATCH": "1"}
    if shape:
        if shape not in SHAPES:
            raise typer.BadParameter(f"expected a shape among {', '.join(SHAPES)}, got {shape!r}")
        variables[SHAPE_VARIABLE] = f"{shape}:{shape_users}:{shape_seconds}"
    # On this machine only, unless somebody says otherwise.
    address = [] if "--web-host" in context.args or "--headless" in context.args else ["--web-host", "127.0.0.1"]
    folder = str(Path(__file__).parent.parent)
    path = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, **variables, "PYTHONPATH": path}
    command = [sys.executable, "-m", "locust", "-f", str(locustfile), *address, *context.args]
    os.execve(sys.executable, command, environment)  # noqa: S606 - no shell is wanted


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    sys.exit(1)


if __name__ == "__main__":
    app()
