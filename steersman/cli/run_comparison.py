"""`steersman runs compare`: what two runs were told differently, and how they did."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated, Any

import typer

from steersman.cli.connection import call_seconds, configured, connect, events
from steersman.cli.output import JsonOption, note, plain, print_json, print_table, say
from steersman.cli.run_view import describe_return, state_name
from steersman.errors import FailedPreconditionError
from steersman.v1 import trainer_pb2, trainer_pb2_grpc


def compare(
    first: Annotated[str, typer.Argument(metavar="RUN", help="A run's id.")],
    second: Annotated[str, typer.Argument(metavar="RUN", help="Another's.")],
    plot: Annotated[Path, typer.Option(help="Where the picture of both learning curves goes.")] = Path("compare.png"),
    as_json: JsonOption = False,
) -> None:
    """Prints the settings in which two runs differ, and draws both learning curves.

    Example:
        steersman runs compare RUN RUN --plot curves.png
    """
    with connect("trainer", configured().trainer_address) as channel:
        stub = trainer_pb2_grpc.TrainerServiceStub(channel)
        runs = [stub.GetRun(trainer_pb2.GetRunRequest(id=name), timeout=call_seconds()).run for name in (first, second)]
        curves = [_iterations(stub, run) for run in runs]
    different = differences(plain(runs[0].spec), plain(runs[1].spec))
    draw(plot, runs, curves)
    if as_json:
        print_json({"different": different, "runs": [plain(run) for run in runs], "plot": str(plot)})
        return
    rows: list[tuple[object, ...]] = [(name, *pair) for name, pair in different.items()]
    rows.append(("state", *map(state_name, runs)))
    rows.append(("steps", *(f"{run.latest.steps:,}" for run in runs)))
    rows.append(("return", *(describe_return(run.latest) for run in runs)))
    print_table("Runs", ("", runs[0].id[:8], runs[1].id[:8]), rows, "")
    if not different:
        say("Their settings are the same.")
    note(f"The curves are in {plot}")


def _iterations(stub: trainer_pb2_grpc.TrainerServiceStub, run: trainer_pb2.Run) -> list[trainer_pb2.Iteration]:
    """Gives the iterations that a run has done so far, without waiting for more."""
    found: list[trainer_pb2.Iteration] = []
    if not run.latest.iteration:
        return found
    for event in events(stub.WatchRun(trainer_pb2.WatchRunRequest(id=run.id))):
        if event.HasField("iteration"):
            found.append(event.iteration)
            if event.iteration.iteration >= run.latest.iteration:
                break
    return found


def differences(first: dict[str, Any], second: dict[str, Any], prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Lists the leaves in which two nested dictionaries differ, by their paths; None stands for one that is absent."""
    found: dict[str, tuple[Any, Any]] = {}
    for name in sorted(first.keys() | second.keys()):
        one, other = first.get(name), second.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            found |= differences(one, other, f"{prefix}{name}.")
        elif one != other:
            found[f"{prefix}{name}"] = (one, other)
    return found


def draw(path: Path, runs: list[trainer_pb2.Run], curves: list[list[trainer_pb2.Iteration]]) -> None:
    """Draws learning curves into a PNG file.

    Args:
        path: The file.
        runs: The runs.
        curves: Their iterations.

    Raises:
        FailedPreconditionError: If matplotlib is not installed.
    """
    try:
        figures = importlib.import_module("matplotlib.figure")
    except ModuleNotFoundError:
        raise FailedPreconditionError("drawing needs matplotlib: pip install 'steersman[plot]'") from None
    figure = figures.Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for number, (run, curve) in enumerate(zip(runs, curves, strict=True)):
        name, color = f"{run.spec.policy} {run.id[:8]}", f"C{number}"
        trained = [iteration for iteration in curve if iteration.HasField("training_return")]
        evaluated = [iteration for iteration in curve if iteration.HasField("evaluated_return")]
        axes.plot(
            [entry.steps for entry in trained],
            [entry.training_return for entry in trained],
            color=color,
            label=f"{name}: training return",
        )
        axes.plot(
            [entry.steps for entry in evaluated],
            [entry.evaluated_return for entry in evaluated],
            "o",
            color=color,
            label=f"{name}: evaluated return",
        )
    axes.set(xlabel="environment steps", ylabel="return")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, format="png", dpi=100)
