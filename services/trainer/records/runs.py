"""What a run is, from MLflow's record of it and Ray's job for it."""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf import timestamp_pb2

from services.trainer.cluster.ray_jobs import Job, JobStatus
from services.trainer.records import tracking
from services.trainer.records.heartbeat import Life
from services.trainer.records.tracking import TrackedRun
from steersman.v1 import trainer_pb2

FINAL_STATES = frozenset({trainer_pb2.RUN_STATE_SUCCEEDED, trainer_pb2.RUN_STATE_FAILED, trainer_pb2.RUN_STATE_STOPPED})

_SUBMISSION_MILLISECONDS = 90_000
"""So long after it was recorded, a run whose job Ray does not know may still be on its way there."""

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


def ending(tracked: TrackedRun, job: Job | None, life: Life, now: int) -> Ending | None:
    """Tells how a run ended that MLflow holds for unfinished; None if it goes on, or may.

    A job records its run's result before it ends, so an ended job with an unfinished run did not get that far.

    Args:
        tracked: MLflow's record, read after the job.
        job: Ray's job; None if Ray does not know it.
        life: What is known of its process: while that lives, the run has not failed, whatever Ray says.
        now: Milliseconds since the epoch.
    """
    if tracked.status in tracking.FINAL:
        return None
    if job is not None and job.status is JobStatus.STOPPED:
        return Ending(trainer_pb2.RUN_STATE_STOPPED)
    if life is Life.ALIVE:
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
    if job.ended:
        # The rest of Ray's message is a piece of the log.
        reason = job.message.split(", last available logs")[0].strip() or "Ray does not say why"
        return Ending(trainer_pb2.RUN_STATE_FAILED, f"the run's job ended without a result: {reason}")
    return None


def ending_without_ray(life: Life) -> Ending | None:
    """Tells how a run ended while Ray does not answer; None if it may go on."""
    if life is not Life.DEAD:
        return None
    return Ending(
        trainer_pb2.RUN_STATE_FAILED,
        "the run's process is gone, and so is Ray; the run can be resumed from its last checkpoint",
    )


def unknown(life: Life, why: str) -> str:
    """Says of a run that Ray tells nothing of what is known of it all the same.

    Args:
        life: Of its process.
        why: Why Ray tells nothing, as a sentence.
    """
    if life is Life.ALIVE:
        return f"{why}; the run's process lives, so it goes on"
    return f"UNKNOWN whether the run goes on: {why}, and there is no sign of the run's process"


def contradiction(job: Job | None, life: Life) -> str:
    """Says that Ray holds a run's job for ended whose process lives; empty if it does not."""
    if life is Life.ALIVE and (job is None or job.ended):
        return "Ray says that the run's job is not there any more, but its process lives, so it goes on"
    return ""


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
