"""Sweeps on the command line: how one is asked for, and how its trials are printed."""

from __future__ import annotations

import enum
import json
import re

from google.protobuf import json_format

from steersman.cli.connection import numbers_that_fit
from steersman.cli.output import plain
from steersman.cli.run_view import describe_return, state_name
from steersman.errors import InvalidArgumentError
from steersman.v1 import trainer_pb2

TRIAL_COLUMNS = ("trial", "settings", "state", "steps", "return")

_SPACE = re.compile(r"(choice|grid|uniform|loguniform)\((.*)\)", re.DOTALL)


class Scheduler(enum.StrEnum):
    """What ends or changes the trials of a sweep on the way."""

    ASHA = "asha"
    PBT = "pbt"


def parse_sweep(
    search: list[str], num_samples: int, max_concurrent_trials: int, scheduler: Scheduler | None
) -> trainer_pb2.Sweep:
    """Reads a sweep from options.

    Args:
        search: Pairs like "lr=loguniform(1e-4, 1e-2)".
        num_samples: How often the spaces are drawn from.
        max_concurrent_trials: Trials at once.
        scheduler: What ends or changes trials on the way.

    Raises:
        InvalidArgumentError: If a pair cannot be read.
    """
    with numbers_that_fit():
        sweep = trainer_pb2.Sweep(num_samples=num_samples, max_concurrent_trials=max_concurrent_trials)
    for pair in search:
        name, _, text = pair.partition("=")
        sweep.parameters[name].CopyFrom(_space(pair, text))
    if scheduler is Scheduler.ASHA:
        sweep.successive_halving.SetInParent()
    elif scheduler is Scheduler.PBT:
        sweep.population.SetInParent()
    return sweep


def _space(pair: str, text: str) -> trainer_pb2.SearchSpace:
    match = _SPACE.fullmatch(text.strip())
    try:
        values = json.loads(f"[{match[2]}]") if match else None
    except ValueError:
        values = None
    if match is None or values is None:
        raise InvalidArgumentError(
            "expected NAME=SPACE with choice(A, B), grid(A, B), uniform(LOW, HIGH) or loguniform(LOW, HIGH), values as "
            f"JSON, got {pair!r}"
        )
    kind = match[1]
    if kind in {"choice", "grid"}:
        return json_format.ParseDict({kind: values}, trainer_pb2.SearchSpace())
    if len(values) != 2 or not all(isinstance(value, int | float) for value in values):
        raise InvalidArgumentError(f"expected two numbers for {kind}, got {pair!r}")
    low, high = values
    return json_format.ParseDict({kind: {"low": low, "high": high}}, trainer_pb2.SearchSpace())


def trial_rows(run: trainer_pb2.Run) -> list[tuple[object, ...]]:
    """Gives a row for each trial of a sweep, for `TRIAL_COLUMNS`; the best one is marked."""
    return [
        (
            f"{trial.number} *" if trial.number == run.best_trial else trial.number,
            ", ".join(f"{name}={_short(value)}" for name, value in sorted(plain(trial.settings).items())),
            state_name(trial),
            f"{trial.latest.steps:,}",
            trial.error or describe_return(trial.latest),
        )
        for trial in run.trials
    ]


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else json.dumps(value)
