"""One training run, from top to bottom: the entrypoint of its Ray Job.

    python -m services.trainer.job RUN_ID ATTEMPT

The run was recorded in MLflow by whoever submitted the job; its spec is read from there. This process drives Ray Tune
(`tuning`); the algorithm runs in a process of its own, and what happens there after each iteration is in
`trial_callback`.
Another attempt goes on from the last checkpoint of the one before.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import threading
from pathlib import Path

from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

from services.common.logs import configure_logging
from services.trainer.job import failure, outcome, promotion, publishing
from services.trainer.job.curve import draw_curve
from services.trainer.job.iteration_log import SweepLog
from services.trainer.job.orders import Orders
from services.trainer.job.plan import Plan
from services.trainer.job.tuning import Learnt, NothingLearntError, train
from services.trainer.records import heartbeat, own_checkpoints, registry, runs, tracking
from services.trainer.records.tracking import Tracking
from steersman.settings import settings
from steersman.v1 import trainer_pb2

_SYSTEM_METRICS_SECONDS = 10.0

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
    tracked = recorder.get(run_id)
    run = runs.to_run(tracked, None)
    recorder.start(run_id)
    orders = Orders(recorder, run_id, attempt)
    over = threading.Event()
    heartbeat.keep_beating(folder_of(run_id), attempt, over)
    monitor = SystemMetricsMonitor(
        run_id, sampling_interval=_SYSTEM_METRICS_SECONDS, resume_logging=True, tracking_uri=settings().mlflow_url
    )
    monitor.start()
    try:
        plan = make_plan(run, recorder)
        learnt = train(plan, recorder, was_stopped=tracked.was_stopped)
        record_end(plan, learnt, recorder)
        version = publishing.publish(learnt.plan.run, learnt.export, recorder)
        if run.spec.publishing.promote_if_better_than:
            recorder.evaluate(run_id, evaluating=True)
            promotion.promote_if_better(learnt.plan.run, version, recorder)
    except NothingLearntError as error:
        recorder.warn(run_id, str(error))
        ended, why = tracking.KILLED, ""
    except Exception as error:  # noqa: BLE001 - whatever it was, the run has to say so
        _log.exception("the run failed")
        ended, why = tracking.FAILED, failure.explain(error, settings().var_dir / "runs")
    else:
        ended, why = (tracking.KILLED if orders.stop_ordered else tracking.FINISHED), ""
    orders.end()
    monitor.finish()
    draw_curve(run, recorder)
    recorder.end(run_id, ended, why)
    over.set()
    return int(ended == tracking.FAILED)


def folder_of(run_id: str) -> Path:
    """Gives where a run leaves things."""
    return settings().var_dir.absolute() / "runs" / run_id


def make_plan(run: trainer_pb2.Run, recorder: Tracking) -> Plan:
    """Says where a run leaves things, and fetches what it starts from."""
    folder = folder_of(run.id)
    folder.mkdir(parents=True, exist_ok=True)
    if not run.spec.HasField("warm_start"):
        return Plan(run, folder)
    return Plan(run, folder, fetch_start(run.spec.warm_start, folder / "start", recorder))


def fetch_start(warm: trainer_pb2.WarmStart, folder: Path, recorder: Tracking) -> Path:
    """Fetches the checkpoint that a run starts from, unless an earlier attempt has, and checks that it may be read.

    Args:
        warm: What was asked for.
        folder: Where it goes: nobody else writes there, so what is checked is what is read.
        recorder: MLflow.

    Raises:
        FailedPreconditionError: If the trainer did not write it.
    """
    noted, start = own_checkpoints.ledger(settings().var_dir), folder / "checkpoint"
    if own_checkpoints.is_ours(start, noted):
        return start
    shutil.rmtree(folder, ignore_errors=True)
    name = warm.checkpoint or f"{warm.policy}:{warm.version}"
    if warm.checkpoint:
        shutil.copytree(warm.checkpoint, start)
    else:
        registry.download_checkpoint(recorder.client, settings().mlflow_url, warm.policy, warm.version, folder)
    own_checkpoints.check(start, noted, name)
    return start


def record_end(plan: Plan, learnt: Learnt, recorder: Tracking) -> None:
    """Records the iteration that a run ends with, and what went wrong on the way."""
    for warning in (learnt.warning, outcome.what_was_cut(learnt.plan.run, learnt.export.iteration)):
        if warning:
            recorder.warn(plan.run.id, warning)
    if learnt.plan.trial:
        # One more of the sweep's own, with the return that the best trial was not chosen for.
        swept = SweepLog(runs.to_run(recorder.get(plan.run.id), None), recorder)
        swept.log(learnt.plan.trial, learnt.export.iteration)
    else:
        recorder.log(plan.run.id, learnt.export.iteration)


if __name__ == "__main__":
    code = main(sys.argv[1], int(sys.argv[2]))
    logging.shutdown()
    sys.stdout.flush()
    # What is left of Ray and of whatever the run imported must not keep a run's process from ending.
    os._exit(code)
