from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from services.trainer.cluster.ray_jobs import Job, JobStatus
from services.trainer.records import runs, tracking
from services.trainer.records.heartbeat import Life
from services.trainer.records.tracking import TrackedRun
from steersman.v1 import trainer_pb2

SUBMITTED = 1_700_000_000_000
MINUTES = 60_000
TRACKED = TrackedRun(
    id="a" * 32,
    spec=trainer_pb2.RunSpec(policy="cartpole"),
    status=tracking.SCHEDULED,
    error="",
    version=0,
    submitted=SUBMITTED,
    ended=0,
    latest=None,
)
ITERATION = trainer_pb2.Iteration(iteration=3, steps=300)


def tracked(status: str, latest: trainer_pb2.Iteration | None = None) -> TrackedRun:
    return dataclasses.replace(TRACKED, status=status, latest=latest)


@pytest.mark.parametrize(
    ("run", "job", "expected"),
    [
        (tracked(tracking.SCHEDULED), None, trainer_pb2.RUN_STATE_QUEUED),
        (tracked(tracking.SCHEDULED), Job(JobStatus.PENDING, ""), trainer_pb2.RUN_STATE_QUEUED),
        (tracked(tracking.SCHEDULED), Job(JobStatus.RUNNING, ""), trainer_pb2.RUN_STATE_STARTING),
        (tracked(tracking.RUNNING), Job(JobStatus.RUNNING, ""), trainer_pb2.RUN_STATE_STARTING),
        (tracked(tracking.RUNNING, ITERATION), Job(JobStatus.RUNNING, ""), trainer_pb2.RUN_STATE_RUNNING),
        (tracked(tracking.FINISHED, ITERATION), Job(JobStatus.SUCCEEDED, ""), trainer_pb2.RUN_STATE_SUCCEEDED),
        (tracked(tracking.FAILED), None, trainer_pb2.RUN_STATE_FAILED),
        (tracked(tracking.KILLED, ITERATION), None, trainer_pb2.RUN_STATE_STOPPED),
    ],
)
def test_state(run: TrackedRun, job: Job | None, expected: trainer_pb2.RunState.ValueType) -> None:
    assert runs.state(run, job) == expected


@pytest.mark.parametrize("status", sorted(tracking.FINAL))
@pytest.mark.parametrize("job", [None, *(Job(status, "") for status in JobStatus)])
def test_what_a_run_said_of_its_own_end_stands(status: str, job: Job | None) -> None:
    assert runs.ending(tracked(status), job, Life.UNKNOWN, SUBMITTED + 60 * MINUTES) is None


@pytest.mark.parametrize("job", [Job(JobStatus.PENDING, ""), Job(JobStatus.RUNNING, "")])
def test_a_living_job_goes_on(job: Job) -> None:
    assert runs.ending(tracked(tracking.RUNNING), job, Life.UNKNOWN, SUBMITTED + 60 * MINUTES) is None


def test_a_run_whose_ray_forgot_it_has_failed() -> None:
    ending = runs.ending(tracked(tracking.RUNNING, ITERATION), None, Life.UNKNOWN, SUBMITTED + 1)
    assert ending is not None
    assert ending.state == trainer_pb2.RUN_STATE_FAILED
    assert "head was restarted" in ending.error


def test_a_run_that_is_just_being_submitted_has_not() -> None:
    assert runs.ending(tracked(tracking.SCHEDULED), None, Life.UNKNOWN, SUBMITTED + 1000) is None
    assert runs.ending(tracked(tracking.SCHEDULED), None, Life.UNKNOWN, SUBMITTED + 10 * MINUTES) is not None


def test_a_stopped_job_is_a_stopped_run() -> None:
    ending = runs.ending(tracked(tracking.RUNNING), Job(JobStatus.STOPPED, "stopped"), Life.UNKNOWN, SUBMITTED)
    assert ending == runs.Ending(trainer_pb2.RUN_STATE_STOPPED)


def test_a_job_that_was_killed_says_so_without_its_log() -> None:
    message = "Job entrypoint command failed with exit code -9, last available logs (truncated to 20,000 chars):\nnoise"
    ending = runs.ending(tracked(tracking.RUNNING), Job(JobStatus.FAILED, message), Life.UNKNOWN, SUBMITTED)
    assert ending is not None
    assert ending.state == trainer_pb2.RUN_STATE_FAILED
    assert "exit code -9" in ending.error
    assert "noise" not in ending.error


def test_a_job_that_succeeded_without_a_result_has_failed() -> None:
    ending = runs.ending(tracked(tracking.RUNNING), Job(JobStatus.SUCCEEDED, ""), Life.UNKNOWN, SUBMITTED)
    assert ending is not None
    assert ending.state == trainer_pb2.RUN_STATE_FAILED


def test_message() -> None:
    ended = dataclasses.replace(tracked(tracking.FINISHED, ITERATION), version=7, ended=SUBMITTED + 1500, error="")
    run = runs.to_run(ended, None)
    assert (run.id, run.version, run.spec.policy) == (ended.id, 7, "cartpole")
    assert run.latest == ITERATION
    assert run.ended.ToMilliseconds() - run.submitted.ToMilliseconds() == 1500


def test_message_of_a_run_that_has_not_ended() -> None:
    run = runs.to_run(TRACKED, None)
    assert not run.HasField("ended")
    assert not run.HasField("latest")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"evaluating": True, "status": tracking.RUNNING}, trainer_pb2.RUN_STATE_EVALUATING),
        ({"status": tracking.SCHEDULED, "latest": ITERATION, "attempt": 2}, trainer_pb2.RUN_STATE_QUEUED),
        ({"status": tracking.KILLED, "evaluating": True}, trainer_pb2.RUN_STATE_STOPPED),
    ],
)
def test_state_between(changes: dict[str, Any], expected: trainer_pb2.RunState.ValueType) -> None:
    assert runs.state(dataclasses.replace(TRACKED, **changes), None) == expected


def test_every_attempt_is_a_job_of_its_own() -> None:
    assert runs.job_id(TRACKED) == TRACKED.id
    assert runs.job_id(dataclasses.replace(TRACKED, attempt=3)) == f"{TRACKED.id}-3"


@pytest.mark.parametrize("life", [Life.ALIVE, Life.UNKNOWN])
def test_a_run_that_may_be_alive_has_not_failed_because_ray_does_not_answer(life: Life) -> None:
    """However long that takes: nobody knows of a run that did not record its end that it has ended."""
    assert runs.ending_without_ray(life) is None
    said = runs.unknown(life, "Ray does not answer")
    assert said.startswith("UNKNOWN") == (life is Life.UNKNOWN)
    assert "Ray does not answer" in said


def test_a_run_whose_process_is_gone_has_failed_also_without_ray() -> None:
    ending = runs.ending_without_ray(Life.DEAD)
    assert ending is not None
    assert ending.state == trainer_pb2.RUN_STATE_FAILED
    assert "the run's process is gone" in ending.error


@pytest.mark.parametrize("job", [None, Job(JobStatus.FAILED, "the supervisor died"), Job(JobStatus.SUCCEEDED, "")])
def test_a_run_whose_process_lives_goes_on_whatever_ray_says(job: Job | None) -> None:
    assert runs.ending(tracked(tracking.RUNNING), job, Life.ALIVE, SUBMITTED + 60 * MINUTES) is None
    assert "but its process lives" in runs.contradiction(job, Life.ALIVE)
    assert not runs.contradiction(job, Life.UNKNOWN)


def test_a_run_that_was_stopped_has_ended_also_while_its_process_takes_its_time() -> None:
    ending = runs.ending(tracked(tracking.RUNNING), Job(JobStatus.STOPPED, ""), Life.ALIVE, SUBMITTED)
    assert ending == runs.Ending(trainer_pb2.RUN_STATE_STOPPED)


def test_a_run_that_was_just_resumed_has_not_failed() -> None:
    resumed = dataclasses.replace(TRACKED, attempt=2, resumed=SUBMITTED + 60 * MINUTES)
    assert runs.ending(resumed, None, Life.UNKNOWN, SUBMITTED + 60 * MINUTES + 1000) is None
