"""What Ray Tune runs: RLlib's algorithm, configured from a run's spec in the trial's own process."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ray.tune.result import TRIAL_INFO

from services.trainer.algorithms import build_config, find_algorithm
from services.trainer.algorithms.config import TRIAL_IN_CONTEXT
from services.trainer.environments.environment_spaces import spaces_of
from services.trainer.job.lost_runners import LostRunners
from services.trainer.job.plan import Plan
from services.trainer.job.sweeps.request import trial_spec
from services.trainer.job.trial_callback import IterationEnd
from services.trainer.records import own_checkpoints
from steersman.settings import settings
from steersman.v1 import trainer_pb2


def make_trainable(plan: Plan) -> Any:  # noqa: ANN401 - RLlib has no types
    """Makes the class that Tune runs for a plan.

    Its config is what a trial was drawn for the sweep's parameters, by the sweep's names; empty without a sweep.

    Args:
        plan: The run's.
    """
    algorithm_class = find_algorithm(plan.run.spec.algorithm).algorithm_class
    spaces = spaces_of(plan.run.spec.environment)

    class Trial(algorithm_class):  # type: ignore[misc, valid-type] # RLlib has no types
        def __init__(self, config: dict[str, Any], **keywords: Any) -> None:  # noqa: ANN401 - Tune's
            own = trial_plan(plan, trial_number(config.pop(TRIAL_INFO).trial_id), _drawn(plan, config))
            own.folder.mkdir(parents=True, exist_ok=True)
            built = build_config(own.run.spec, spaces)
            built.environment(env_config={TRIAL_IN_CONTEXT: own.trial})
            built.callbacks([functools.partial(IterationEnd, own), *built.callbacks_class])
            self._lost_runners = LostRunners(own.trial)
            super().__init__(built, **keywords)

        def restore_env_runners(self, env_runner_group: Any) -> list[int]:  # noqa: ANN401 - RLlib's
            self._lost_runners.check(env_runner_group)
            restored: list[int] = super().restore_env_runners(env_runner_group)
            return restored

        def save_checkpoint(self, checkpoint_dir: str) -> Any:  # noqa: ANN401 - Tune's
            saved = super().save_checkpoint(checkpoint_dir)
            own_checkpoints.note(Path(checkpoint_dir), own_checkpoints.ledger(settings().var_dir))
            return saved

        @classmethod
        def default_resource_request(cls, config: dict[str, Any]) -> Any:  # noqa: ANN401
            spec = trial_plan(plan, 1, _drawn(plan, config)).run.spec
            return super().default_resource_request(build_config(spec, spaces))

    # Tune names folders after it. RLlib has registered its algorithms under their own names.
    Trial.__name__ = Trial.__qualname__ = f"{plan.run.spec.algorithm}Trial"
    return Trial


def trial_plan(plan: Plan, number: int, drawn: Mapping[str, Any]) -> Plan:
    """Gives what a trial has to know: the run's plan itself, unless that is a sweep.

    Args:
        plan: The run's.
        number: The trial's, counted from 1.
        drawn: What it was drawn for the sweep's parameters.
    """
    if not plan.run.spec.HasField("sweep"):
        return plan
    run = trainer_pb2.Run()
    run.CopyFrom(plan.run)
    run.spec.CopyFrom(trial_spec(plan.run.spec, number, drawn))
    return replace(plan, run=run, folder=plan.folder / "trials" / f"{number:03d}", trial=number)


def trial_number(trial_id: str) -> int:
    """Gives the number of a trial, counted from 1, from Tune's id for it, such as "8f2b1_00003"."""
    return int(trial_id.rpartition("_")[2]) + 1


def _drawn(plan: Plan, config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name in plan.run.spec.sweep.parameters}
