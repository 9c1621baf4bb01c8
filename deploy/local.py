"""The command line of the local stack: `python -m deploy.local up | down | status | logs`."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from tomllib import TOMLDecodeError
from typing import Annotated, Never, TypeVar

import typer
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import SettingsError
from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from deploy import health, layout, stack
from deploy.programs import local_programs
from steersman.errors import SteersmanError
from steersman.settings import Settings

app = typer.Typer(
    help="Runs Steersman on this machine: Ray, MLflow, gateway, trainer and evaluator, all on loopback addresses.\n\n"
    "Every address is a setting: STEERSMAN_GATEWAY_ADDRESS and so on, as docs/settings.md lists them. "
    "State and logs are in STEERSMAN_VAR_DIR, which is var/ by default.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_Result = TypeVar("_Result")
_console = Console()
_errors = Console(stderr=True)
_COLORS = {
    "ready": "green",
    "starting": "yellow",
    "silent": "red",
    "restarting": "red",
    "stopping": "yellow",
    "stopped": "dim",
}


@app.command()
def up() -> None:
    """Starts the stack and returns when every program answers.

    Run it twice and nothing happens. If a program keeps crashing, the end of its log is shown, whatever was started is
    stopped again and the exit code is 1.
    """
    settings = read_settings()
    with Live(console=_console, transient=True, refresh_per_second=8) as live:
        started = attempt(lambda: stack.start(settings, watch=lambda states: live.update(status_table(states))))
    _console.print(status_table(stack.status(settings)))
    _console.print("Started." if started else "It was running already.", "Stop it with: make down")


@app.command()
def down() -> None:
    """Stops the stack; when it returns, none of its processes is left. Harmless when nothing runs."""
    settings = read_settings()
    with _console.status("Stopping ..."):
        stopped = attempt(lambda: stack.stop(settings))
    _console.print("Stopped." if stopped else "Nothing was running.")


@app.command()
def clean() -> None:
    """Stops the stack and deletes all its state, unless other files were in its folder before it was first started."""
    settings = layout.absolute(read_settings())
    with _console.status("Deleting ..."):
        attempt(lambda: stack.stop(settings))
        attempt(lambda: layout.delete(settings))
    if settings.var_dir.exists():
        _print_plainly(_errors, f"{settings.var_dir} stays, since it holds other files; delete it yourself.")


@app.command()
def status() -> None:
    """Shows every program: state, address, process, uptime, memory. Exit code 1 if any does not answer."""
    settings = read_settings()
    states = attempt(lambda: stack.status(settings))
    _console.print(status_table(states))
    for state in states:
        if state.state == "silent":
            _print_plainly(
                _errors,
                f"{state.name} at {state.address} takes connections and has not answered within "
                f"{health.TIMEOUT_SECONDS:g} s.",
            )
    if not all(state.ready for state in states):
        raise typer.Exit(1)


@app.command()
def logs(
    program: Annotated[
        str | None, typer.Argument(help="ray, mlflow, gateway, trainer, evaluator or supervisor; all if not given.")
    ] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines to show.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep showing what is written, until Ctrl-C.")] = False,
) -> None:
    """Shows what the programs wrote."""
    settings = layout.absolute(read_settings())
    known = [each.name for each in attempt(lambda: local_programs(settings))] + ["supervisor"]
    if program is not None and program not in known:
        fail(f"expected a program of the stack ({', '.join(known)}), got {program!r}")
    files = [layout.log_file(settings, name) for name in ([program] if program else known)]
    written = [str(file) for file in files if file.exists()]
    if not written:
        fail(f"there are no logs yet in {settings.var_dir / 'logs'}; start the stack with: make up")
    command = ["tail", f"--lines={lines}", *(["--follow=name", "--retry"] if follow else []), *written]
    try:
        subprocess.run(command, check=False)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def status_table(states: Sequence[stack.Status]) -> Table:
    """Draws the state of the stack."""
    table = Table(title="Steersman", title_justify="left")
    for heading in ("program", "state", "address"):
        table.add_column(heading)
    for heading in ("process", "uptime", "memory"):
        table.add_column(heading, justify="right")
    for state in states:
        table.add_row(
            state.name,
            Text(state.state, style=_COLORS[state.state]),
            state.address,
            str(state.pid or ""),
            "" if state.uptime_seconds is None else _duration(state.uptime_seconds),
            "" if state.memory_bytes is None else f"{state.memory_bytes / 2**20:,.0f} MiB",
        )
    return table


def read_settings() -> Settings:
    """Reads the settings, and ends the program with a sentence for each that is wrong."""
    try:
        return Settings()
    except ValidationError as error:
        problems = "; ".join(map(_problem, error.errors()))
        fail(f"settings are wrong: {problems}")
    except (SettingsError, TOMLDecodeError) as error:
        fail(f"settings are wrong: {error}")


def _problem(error: ErrorDetails) -> str:
    name = ".".join(map(str, error["loc"])).upper()
    # What a setting that does not exist was set to may be meant for a secret one, and URLs may hold passwords.
    is_secret = error["type"] == "extra_forbidden" or name.endswith("_URL")
    got = "" if is_secret else f", got {error['input']!r}"
    return f"STEERSMAN_{name}: {error['msg']}{got}"


def attempt(action: Callable[[], _Result]) -> _Result:
    """Does something, and ends the program with a sentence if that fails in a known way."""
    try:
        return action()
    except stack.ProgramCrashedError as error:
        _errors.print(Panel(Text(error.log_tail), title=f"{error.program}: end of its log", border_style="red"))
        fail(str(error))
    except SteersmanError as error:
        fail(str(error))
    except KeyboardInterrupt:
        fail("interrupted")


def _print_plainly(console: Console, line: str) -> None:
    """Prints a line as it is, however long and whatever is in it."""
    console.print(line, soft_wrap=True, highlight=False, markup=False)


def fail(message: str) -> Never:
    """Ends the program with a message on standard error and exit code 1."""
    _errors.print(Text.assemble(("error: ", "bold red"), message))
    raise typer.Exit(1)


def _duration(seconds: float) -> str:
    """Writes a duration as people do."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


if __name__ == "__main__":
    app()
