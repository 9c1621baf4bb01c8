"""What a run is, from MLflow's record of it and Ray's job for it."""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf import timestamp_pb2

from services.trainer.cluster.ray_jobs import Job, JobStatus
from services.trainer.records import tracking
from services.trainer.records.tracking import TrackedRun
from steersman.v1 import trainer_pb2

FINAL_STATES = frozenset({trainer_pb2.RUN_STATE_SUCCEEDED, trainer_pb2.RUN_STATE_FAILED, trainer_pb2.RUN_STATE_STOPPED})

_SUBMISSION_MILLISECONDS = 90_000
"""So long after it was recorded, a run whose job Ray does not know may still be on its way there."""

_CLUSTER_GONE_SECONDS = 60
"""So long without a word of Ray or of a run, the run has failed: the time after which Ray's own processes give up."""

_ENDED = {
    tracking.FINISHED: trainer_pb2.RUN_STATE_SUCCEEDED,
    tracking.FAILED: trainer_pb2.RUN_STATE_FAILED,
    tracking.KILLED: trainer_pb2.RUN_STATE_STOPPED,
}


@dataclass(frozen=True)
class Ending:
    """How a run ended that did not say so itself.

    Attributes:
        state: FAILED or STOPPED.
        error: Why it failed, in one sentence; empty if it was stopped.
    """

    state: trainer_pb2.RunState.ValueType
    error: str = ""


def state(tracked: TrackedRun, job: Job | None) -> trainer_pb2.RunState.ValueType:
    """Tells where a run is.

    Args:
        tracked: MLflow's record.
        job: Ray's job, where it is known.
    """
    if tracked.status in _ENDED:
        return _ENDED[tracked.status]
    if tracked.evaluating:
        return trainer_pb2.RUN_STATE_EVALUATING
    if tracked.status == tracking.RUNNING and tracked.latest is not None and tracked.progressed >= tracked.resumed:
        return trainer_pb2.RUN_STATE_RUNNING
    if tracked.status == tracking.RUNNING or (job is not None and job.status is JobStatus.RUNNING):
        return trainer_pb2.RUN_STATE_STARTING
    return trainer_pb2.RUN_STATE_QUEUED


def job_id(tracked: TrackedRun) -> str:
    """Gives the submission id of a run's newest job."""
    return job_name(tracked.id, tracked.attempt)


def job_name(run_id: str, attempt: int) -> str:
    """Gives the submission id of a run's job: Ray takes each only once."""
    return run_id if attempt == 1 else f"{run_id}-{attempt}"


def ending(tracked: TrackedRun, job: Job | None, now: int) -> Ending | None:
    """Tells how a run ended that MLflow holds for unfinished; None if it goes on.

    A job records its run's result before it ends, so an ended job with an unfinished run did not get that far.

    Args:
        tracked: MLflow's record, read after the job.
        job: Ray's job; None if Ray does not know it.
        now: Milliseconds since the epoch.
    """
    if tracked.status in tracking.FINAL:
        return None
    if job is None:
        if (
            now - max(tracked.submitted, tracked.resumed) < _SUBMISSION_MILLISECONDS
            and tracked.status == tracking.SCHEDULED
        ):
            return None
        return Ending(
            trainer_pb2.RUN_STATE_FAILED,
            "Ray does not know the run's job any more: Ray's head was restarted before the run ended; the run can be "
            "resumed from its last checkpoint",
        )
    if job.status is JobStatus.STOPPED:
        return Ending(trainer_pb2.RUN_STATE_STOPPED)
    if job.ended:
        # The rest of Ray's message is a piece of the log.
        reason = job.message.split(", last available logs")[0].strip() or "Ray does not say why"
        return Ending(trainer_pb2.RUN_STATE_FAILED, f"the run's job ended without a result: {reason}")
    return None


def ending_without_ray(tracked: TrackedRun, away_seconds: float, now: int) -> Ending | None:
    """Tells how a run ended whose cluster went away; None if it may go on.

    Args:
        tracked: MLflow's record of an unfinished run.
        away_seconds: How long Ray has not answered.
        now: Milliseconds since the epoch.
    """
    quiet = (now - max(tracked.progressed, tracked.submitted)) / 1000
    if away_seconds < _CLUSTER_GONE_SECONDS or quiet < _CLUSTER_GONE_SECONDS:
        return None
    return Ending(
        trainer_pb2.RUN_STATE_FAILED,
        f"the cluster went away: Ray has not answered for {_CLUSTER_GONE_SECONDS} s, and the run has told nothing; it "
        "can be resumed from its last checkpoint",
    )


def to_run(tracked: TrackedRun, job: Job | None) -> trainer_pb2.Run:
    """Makes the message that describes a run."""
    run = trainer_pb2.Run(
        id=tracked.id,
        spec=tracked.spec,
        state=state(tracked, job),
        error=tracked.error,
        submitted=_timestamp(tracked.submitted),
        version=tracked.version,
        attempt=tracked.attempt,
        warning=tracked.warning,
        git_commit=tracked.git_commit,
        best_trial=tracked.best_trial,
    )
    if tracked.latest is not None:
        run.latest.CopyFrom(tracked.latest)
    if tracked.published is not None:
        run.published.CopyFrom(tracked.published)
    if tracked.ended:
        run.ended.CopyFrom(_timestamp(tracked.ended))
    return run


def _timestamp(milliseconds: int) -> timestamp_pb2.Timestamp:
    stamp = timestamp_pb2.Timestamp()
    stamp.FromMilliseconds(milliseconds)
    return stamp
