"""One training run, from top to bottom: the entrypoint of its Ray Job.

    python -m services.trainer.job RUN_ID ATTEMPT

The run was recorded in MLflow by whoever submitted the job; its spec is read from there. This process drives Ray Tune;
the algorithm itself runs in the trial's process, and what happens there after each iteration is in `trial`. Another
attempt goes on from the last checkpoint of the one before.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
from pathlib import Path
from typing import Any

import ray
from google.protobuf import json_format
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from ray import tune

from services.common.logs import configure_logging
from services.trainer import algorithms, failure, outcome, publishing, registry, runs, tracking, trial
from services.trainer.curve import draw_curve
from services.trainer.orders import Orders, StopWhenOverdue
from services.trainer.publishing import Export
from services.trainer.stall import StallGuard
from services.trainer.tracking import Tracking
from steersman.errors import FailedPreconditionError
from steersman.settings import settings
from steersman.v1 import trainer_pb2

_CHECKPOINTS_KEPT = 3
_SYSTEM_METRICS_SECONDS = 10.0
_TUNE = "tune"

_log = logging.getLogger("services.trainer.job")


def main(run_id: str, attempt: int) -> int:
    """Trains, exports and registers; records how it went.

    Args:
        run_id: The run, as MLflow knows it.
        attempt: Which attempt at it this is, counted from 1.

    Returns:
        The exit code: 0 if a version was registered.
    """
    configure_logging(f"run {run_id[:8]}", settings().log_level)
    recorder = Tracking(settings().mlflow_url)
    run = runs.to_run(recorder.get(run_id), None)
    recorder.start(run_id)
    orders = Orders(recorder, run_id, attempt)
    monitor = SystemMetricsMonitor(
        run_id, sampling_interval=_SYSTEM_METRICS_SECONDS, resume_logging=True, tracking_uri=settings().mlflow_url
    )
    monitor.start()
    try:
        plan = make_plan(run, recorder)
        exported = train(plan, recorder)
        recorder.log(run_id, exported.iteration)
        publishing.publish(run, exported, recorder)
    except NothingLearntError as error:
        recorder.warn(run_id, str(error))
        ended, why = tracking.KILLED, ""
    except Exception as error:  # noqa: BLE001 - whatever it was, the run has to say so
        _log.exception("the run failed")
        ended, why = tracking.FAILED, failure.explain(error)
    else:
        ended, why = (tracking.KILLED if orders.stop_ordered else tracking.FINISHED), ""
    orders.end()
    monitor.finish()
    draw_curve(run, recorder)
    recorder.end(run_id, ended, why)
    return int(ended == tracking.FAILED)


def make_plan(run: trainer_pb2.Run, recorder: Tracking) -> trial.Plan:
    """Says where a run leaves things, and fetches what it starts from."""
    folder = settings().var_dir.absolute() / "runs" / run.id
    folder.mkdir(parents=True, exist_ok=True)
    warm = run.spec.warm_start
    if warm.checkpoint:
        return trial.Plan(run, folder, Path(warm.checkpoint))
    if warm.version:
        start = registry.download_checkpoint(
            recorder.client, settings().mlflow_url, warm.policy, warm.version, folder / "start"
        )
        return trial.Plan(run, folder, start)
    return trial.Plan(run, folder)


def train(plan: trial.Plan, recorder: Tracking) -> Export:
    """Runs Tune with one trial and gives what its last iteration left."""
    config = algorithms.build_config(plan.run.spec)
    config.callbacks(functools.partial(trial.IterationEnd, plan))
    ray.init()
    run_config = tune.RunConfig(
        name=_TUNE,
        storage_path=str(plan.folder),
        stop=StopWhenOverdue(),
        checkpoint_config=tune.CheckpointConfig(
            num_to_keep=plan.run.spec.checkpoints_kept or _CHECKPOINTS_KEPT,
            checkpoint_score_attribute=trial.SCORE,
            checkpoint_score_order="max",
            checkpoint_at_end=True,
        ),
        callbacks=[
            IterationLog(plan, recorder),
            StallGuard(settings().iteration_seconds),
        ],
        verbose=0,
    )
    folder = str(plan.folder / _TUNE)
    if tune.Tuner.can_restore(folder):
        _log.info("going on from the last checkpoint")
        tuner = tune.Tuner.restore(
            folder,
            config.algo_class,
            param_space=config,
            # A trial that was told to stop has finished, as Tune sees it.
            _resume_config=tune.ResumeConfig(
                finished=tune.ResumeConfig.ResumeType.RESUME,
                unfinished=tune.ResumeConfig.ResumeType.RESUME,
                errored=tune.ResumeConfig.ResumeType.RESUME,
            ),
        )
        # Ray restores these too, as they were: with the orders and the clock of the attempt before.
        tuner._local_tuner._run_config = run_config  # noqa: SLF001 - there is no public way to replace callbacks
    else:
        tuner = tune.Tuner(
            config.algo_class, param_space=config, tune_config=tune.TuneConfig(num_samples=1), run_config=run_config
        )
    (result,) = tuner.fit()
    if result.error is not None:
        raise result.error
    return last_export(plan, result)


def last_export(plan: trial.Plan, result: Any) -> Export:  # noqa: ANN401 - Ray has no types
    """Gives what a trial exported when it ended; or exports its last checkpoint, if it was ended before that.

    Raises:
        NothingLearntError: If there is no checkpoint.
    """
    metrics = result.metrics or {}
    if metrics.get(trial.EXPORTED):
        return plan.exported(iteration_of(metrics))
    if not result.best_checkpoints:
        raise NothingLearntError("the run was stopped before its first checkpoint: there is nothing to export")
    checkpoint, kept = max(result.best_checkpoints, key=lambda entry: int(entry[1]["training_iteration"]))
    where = plan.exported(iteration_of(kept))
    evaluated = outcome.export(plan.run, where.iteration, Path(checkpoint.path), where.bundle)
    return Export(evaluated, where.bundle, Path(checkpoint.path))


class NothingLearntError(FailedPreconditionError):
    """A run was stopped before there was anything to export."""


class IterationLog(tune.Callback):  # type: ignore[misc] # Ray has no types
    """Tune calls it for every result, in this process.

    Args:
        plan: The run.
        recorder: Where to.
    """

    def __init__(self, plan: trial.Plan, recorder: Tracking) -> None:
        self._plan = plan
        self._recorder = recorder

    def on_trial_result(self, *, result: dict[str, Any], **_: Any) -> None:  # noqa: ANN401 - Tune's signature
        """Logs the iteration, and publishes what it exported on the way."""
        iteration = iteration_of(result)
        self._recorder.log(self._plan.run.id, iteration)
        _log.info("%s", json_format.MessageToJson(iteration, indent=None))
        if result[trial.EXPORTED] and not result["done"]:
            publishing.publish(self._plan.run, self._plan.exported(iteration), self._recorder)


def iteration_of(result: dict[str, Any]) -> trainer_pb2.Iteration:
    """Reads the iteration that the trial wrote into its result."""
    return json_format.ParseDict(result[trial.RESULT], trainer_pb2.Iteration())


if __name__ == "__main__":
    code = main(sys.argv[1], int(sys.argv[2]))
    logging.shutdown()
    sys.stdout.flush()
    # What is left of Ray and of whatever the run imported must not keep a run's process from ending.
    os._exit(code)
