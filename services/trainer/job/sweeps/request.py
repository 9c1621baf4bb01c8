"""What a request may search, and what a trial's spec is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from services.common.structs import plain_list
from services.trainer.algorithms import (
    MODEL,
    Algorithm,
    check_setting,
    find_algorithm,
    rllib_names,
    settings_of,
    typed_settings,
)
from steersman.arguments import plain_values
from steersman.errors import InvalidArgumentError
from steersman.v1 import trainer_pb2

MOST_TRIALS = 1000


def check_sweep(spec: trainer_pb2.RunSpec) -> None:
    """Checks a sweep, apart from whether each of its networks can be built.

    Args:
        spec: What was asked for, without the defaults.

    Raises:
        InvalidArgumentError: If a setting is unknown or given twice, a value is not one for it, there are no or too
            many trials, or the scheduler is none for the run.
    """
    sweep, algorithm = spec.sweep, find_algorithm(spec.algorithm)
    if not sweep.parameters:
        raise InvalidArgumentError("expected at least one setting to search in sweep.parameters, got none")
    given = {*plain_values(spec.settings), *typed_settings(algorithm, spec.training)}
    for name, space in sweep.parameters.items():
        for setting in rllib_names(algorithm, name):
            if setting in given:
                raise InvalidArgumentError(f"expected {setting} once, in the settings or in the sweep, got it twice")
            for value in _limits(name, space):
                check_setting(algorithm, setting, value)
            given.add(setting)
    if (trials := trials_of(sweep)) > MOST_TRIALS:
        raise InvalidArgumentError(f"expected a sweep of at most {MOST_TRIALS} trials, got {trials}")
    if spec.publishing.every_iterations:
        raise InvalidArgumentError(
            "expected no publishing.every_iterations in a sweep, whose version is its best trial's at the end, got "
            f"{spec.publishing.every_iterations}"
        )
    _check_scheduler(spec, algorithm)


def trials_of(sweep: trainer_pb2.Sweep) -> int:
    """Tells how many trials a sweep has."""
    grids = (len(space.grid.values) for space in sweep.parameters.values() if space.WhichOneof("space") == "grid")
    return math.prod(grids, start=max(1, sweep.num_samples))


def trial_spec(spec: trainer_pb2.RunSpec, number: int, drawn: Mapping[str, Any]) -> trainer_pb2.RunSpec:
    """Gives the spec of one trial: that of a run without a sweep.

    Args:
        spec: The sweep's, with the defaults filled in.
        number: The trial's, counted from 1. Each has a seed of its own, or trials with equal settings would be equal.
        drawn: What it was drawn for the sweep's parameters.
    """
    algorithm = find_algorithm(spec.algorithm)
    found = trainer_pb2.RunSpec()
    found.CopyFrom(spec)
    found.ClearField("sweep")
    found.seed = (spec.seed + number - 1) % 2**31
    found.settings.update({setting: value for name, value in drawn.items() for setting in rllib_names(algorithm, name)})
    return found


def examples(spec: trainer_pb2.RunSpec) -> Iterator[trainer_pb2.RunSpec]:
    """Gives specs of trials in which each value that a sweep may try, or the limits of its range, occurs.

    Args:
        spec: With the defaults filled in. Without a sweep it is the only example of itself.
    """
    spaces = {name: list(_limits(name, space)) for name, space in spec.sweep.parameters.items()}
    first = {name: values[0] for name, values in spaces.items()}
    yield trial_spec(spec, 1, first)
    for name, values in spaces.items():
        for value in values[1:]:
            yield trial_spec(spec, 1, first | {name: value})


def _limits(name: str, space: trainer_pb2.SearchSpace) -> list[Any]:
    """Gives the values that a space consists of, or the ends of its range.

    Raises:
        InvalidArgumentError: If there are none, or it is no range.
    """
    kind = space.WhichOneof("space")
    if kind is None:
        raise InvalidArgumentError(f"expected choice, grid, uniform or loguniform for {name} in the sweep, got none")
    if kind in {"choice", "grid"}:
        values = plain_list(getattr(space, kind))
        if not values:
            raise InvalidArgumentError(f"expected at least one value to try for {name}, got none")
        return values
    searched: trainer_pb2.SearchRange = getattr(space, kind)
    low, high = searched.low, searched.high
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InvalidArgumentError(f"expected a range from a number to a greater one for {name}, got {low} to {high}")
    if kind == "loguniform" and low <= 0:
        raise InvalidArgumentError(f"expected a range above 0 for {name}, which is drawn by its logarithm, got {low}")
    return [int(end) if end.is_integer() else end for end in (low, high)]


def _check_scheduler(spec: trainer_pb2.RunSpec, algorithm: Algorithm) -> None:
    sweep, kind = spec.sweep, spec.sweep.WhichOneof("scheduler")
    if kind is None:
        return
    if algorithm.learns_from_recordings:
        raise InvalidArgumentError(
            f"expected no scheduler for {algorithm.name}: what learns from recordings has no return to be compared by "
            f"on the way, got {kind}"
        )
    if not spec.stop.steps:
        raise InvalidArgumentError(f"expected stop.steps for a sweep with {kind}, which counts in steps, got none")
    if kind == "successive_halving":
        halving = sweep.successive_halving
        if halving.reduction_factor == 1:
            raise InvalidArgumentError("expected a reduction_factor of at least 2, got 1")
        if halving.grace_steps > spec.stop.steps:
            raise InvalidArgumentError(
                f"expected grace_steps of at most stop.steps, {spec.stop.steps}, got {halving.grace_steps}"
            )
        return
    if trials_of(sweep) < 2:
        raise InvalidArgumentError("expected at least 2 trials for a population, got 1; num_samples makes more")
    population = sweep.population
    if not 0 <= population.quantile <= 0.5:
        raise InvalidArgumentError(f"expected a quantile of 0 to 0.5, got {population.quantile}")
    if not 0 <= population.resample_probability <= 1:
        raise InvalidArgumentError(f"expected a resample_probability of 0 to 1, got {population.resample_probability}")
    for name in sweep.parameters:
        for setting in rllib_names(algorithm, name):
            if settings_of(algorithm)[setting].method == MODEL:
                raise InvalidArgumentError(
                    f"expected settings that do not change the network for a population, whose trials take over each "
                    f"other's weights, got {name}"
                )
