"""A sweep in the words of Ray Tune: spaces, and schedulers that end or change trials on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, PopulationBasedTraining

from services.common.structs import plain_list
from services.trainer.algorithms import Algorithm, check_setting, find_algorithm, rllib_names
from services.trainer.job.result_keys import RETURN, STEPS
from steersman.v1 import trainer_pb2

_GRACE_SHARE = 16
_REDUCTION_FACTOR = 4
_INTERVAL_SHARE = 10
_QUANTILE = 0.25
_RESAMPLE_PROBABILITY = 0.25


def param_space(spec: trainer_pb2.RunSpec) -> dict[str, Any]:
    """Makes what Tune draws trials from: Tune's spaces by the sweep's names; empty for a run without a sweep."""
    algorithm = find_algorithm(spec.algorithm)
    return {name: _domain(algorithm, name, space) for name, space in spec.sweep.parameters.items()}


def scheduler(spec: trainer_pb2.RunSpec) -> Any:  # noqa: ANN401 - Ray has no types
    """Makes Tune's scheduler for a run."""
    sweep, steps = spec.sweep, spec.stop.steps
    compared: dict[str, Any] = {"time_attr": STEPS, "metric": RETURN, "mode": "max"}
    match sweep.WhichOneof("scheduler"):
        case "successive_halving":
            halving = sweep.successive_halving
            return AsyncHyperBandScheduler(
                max_t=steps,
                grace_period=halving.grace_steps or max(1, steps // _GRACE_SHARE),
                reduction_factor=halving.reduction_factor or _REDUCTION_FACTOR,
                **compared,
            )
        case "population":
            population = sweep.population
            given = population.HasField("resample_probability")
            return PopulationBasedTraining(
                perturbation_interval=population.interval_steps or max(1, steps // _INTERVAL_SHARE),
                hyperparam_mutations=_mutations(spec),
                quantile_fraction=population.quantile or _QUANTILE,
                resample_probability=population.resample_probability if given else _RESAMPLE_PROBABILITY,
                custom_explore_fn=_keep_within(_ranges(spec)),
                log_config=False,
                # As long as no episode has ended there is no return, and nothing to compare.
                require_attrs=False,
                **compared,
            )
        case _:
            return FIFOScheduler()


def _domain(algorithm: Algorithm, name: str, space: trainer_pb2.SearchSpace) -> Any:  # noqa: ANN401
    setting = rllib_names(algorithm, name)[0]
    kind = space.WhichOneof("space")
    if kind == "choice":
        return tune.choice([check_setting(algorithm, setting, value) for value in plain_list(space.choice)])
    if kind == "grid":
        return tune.grid_search([check_setting(algorithm, setting, value) for value in plain_list(space.grid)])
    low, high = _range(algorithm, name, space)
    if isinstance(low, int):
        # Tune leaves the end of a range of whole numbers out.
        return tune.randint(low, high + 1) if kind == "uniform" else tune.lograndint(low, high + 1)
    return tune.uniform(low, high) if kind == "uniform" else tune.loguniform(low, high)


def _range(algorithm: Algorithm, name: str, space: trainer_pb2.SearchSpace) -> tuple[Any, Any]:
    """Gives a range's ends as the setting has them: whole numbers for one that is whole."""
    setting = rllib_names(algorithm, name)[0]
    searched = space.uniform if space.WhichOneof("space") == "uniform" else space.loguniform
    low, high = (
        check_setting(algorithm, setting, int(end) if end.is_integer() else end)
        for end in (searched.low, searched.high)
    )
    return low, high


def _ranges(spec: trainer_pb2.RunSpec) -> dict[str, tuple[Any, Any]]:
    algorithm = find_algorithm(spec.algorithm)
    return {
        name: _range(algorithm, name, space)
        for name, space in spec.sweep.parameters.items()
        if space.WhichOneof("space") in {"uniform", "loguniform"}
    }


def _mutations(spec: trainer_pb2.RunSpec) -> dict[str, Any]:
    """Gives what settings may be changed to: for a grid, which Tune cannot draw from, its values."""
    algorithm = find_algorithm(spec.algorithm)
    return {
        name: plain_list(space.grid) if space.WhichOneof("space") == "grid" else _domain(algorithm, name, space)
        for name, space in spec.sweep.parameters.items()
    }


def _keep_within(ranges: dict[str, tuple[Any, Any]]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Makes what bounds changed settings, since Tune only multiplies them."""

    def bound(settings: dict[str, Any]) -> dict[str, Any]:
        return settings | {name: min(max(settings[name], low), high) for name, (low, high) in ranges.items()}

    return bound
