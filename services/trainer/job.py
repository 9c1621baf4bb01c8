"""One training run, from top to bottom: the entrypoint of its Ray Job.

    python -m services.trainer.job RUN_ID

The run was recorded in MLflow by whoever submitted the job; its spec is read from there. This process drives Ray Tune;
the algorithm itself runs in the trial's process, and what happens there after each iteration is in `trial`.
"""

from __future__ import annotations

import functools
import logging
import sys
from typing import Any

import ray
from google.protobuf import json_format
from ray import tune

from services.common.bundle import read_bundle
from services.common.logs import configure_logging
from services.trainer import algorithms, registry, trial
from services.trainer.stall import StallGuard
from services.trainer.tracking import Tracking
from services.trainer.watched_environment import what_went_wrong
from steersman.settings import settings
from steersman.v1 import trainer_pb2

_CHECKPOINT_EVERY = 10
_CHECKPOINTS_KEPT = 2

_log = logging.getLogger("services.trainer.job")


def main(run_id: str) -> int:
    """Trains, exports and registers; records how it went.

    Args:
        run_id: The run, as MLflow knows it.

    Returns:
        The exit code: 0 if a version was registered.
    """
    configure_logging(f"run {run_id[:8]}", settings().log_level)
    tracking = Tracking(settings().mlflow_url)
    spec = tracking.get(run_id).spec
    tracking.start(run_id)
    plan = trial.Plan(run_id, spec, settings().var_dir.absolute() / "runs" / run_id)
    try:
        last = train(plan, tracking)
        bundle = read_bundle(plan.bundle)
        version = registry.register(tracking.client, spec.policy, run_id, bundle, last.evaluated_return)
        tracking.finish(run_id, version)
    except Exception as error:  # noqa: BLE001 - whatever it was, the run has to say so
        _log.exception("the run failed")
        tracking.fail(run_id, what_went_wrong() or explain(error))
        return 1
    _log.info("registered version %d of %s, return %.1f", version, spec.policy, last.evaluated_return)
    return 0


def train(plan: trial.Plan, tracking: Tracking) -> trainer_pb2.Iteration:
    """Runs Tune with one trial and gives its last iteration, whose weights are exported."""
    plan.folder.mkdir(parents=True, exist_ok=True)
    config = algorithms.build_config(plan.spec)
    config.callbacks(functools.partial(trial.IterationEnd, plan))
    ray.init()
    tuner = tune.Tuner(
        config.algo_class,
        param_space=config,
        tune_config=tune.TuneConfig(num_samples=1),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(plan.folder),
            checkpoint_config=tune.CheckpointConfig(
                checkpoint_frequency=_CHECKPOINT_EVERY, checkpoint_at_end=True, num_to_keep=_CHECKPOINTS_KEPT
            ),
            callbacks=[IterationLog(tracking, plan.run_id), StallGuard(settings().iteration_seconds)],
            verbose=0,
        ),
    )
    (result,) = tuner.fit()
    if result.error is not None:
        raise result.error
    return iteration_of(result.metrics)


class IterationLog(tune.Callback):  # type: ignore[misc] # Ray has no types
    """Tune calls it for every result, in this process.

    Args:
        tracking: Where to.
        run_id: The run.
    """

    def __init__(self, tracking: Tracking, run_id: str) -> None:
        self._tracking = tracking
        self._run_id = run_id

    def on_trial_result(self, *, result: dict[str, Any], **_: Any) -> None:  # noqa: ANN401 - Tune's signature
        """Logs the iteration."""
        iteration = iteration_of(result)
        self._tracking.log(self._run_id, iteration)
        _log.info("%s", json_format.MessageToJson(iteration, indent=None))


def iteration_of(result: dict[str, Any]) -> trainer_pb2.Iteration:
    """Reads the iteration that the trial wrote into its result."""
    return json_format.ParseDict(result[trial.RESULT], trainer_pb2.Iteration())


def explain(error: BaseException) -> str:
    """Says in one sentence why a run failed."""
    # Ray wraps what a process raised; the innermost cause is what happened.
    while isinstance(error, ray.exceptions.RayTaskError) and error.cause is not None:
        error = error.cause
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1].strip()}" if lines else type(error).__name__


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
