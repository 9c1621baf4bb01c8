from __future__ import annotations

from typing import Any

from services.trainer.cluster.run_queue import waits

JOBS: list[dict[str, Any]] = [
    {"job_id": "01", "submission_id": "first"},
    {"job_id": "02", "submission_id": "second"},
    {"job_id": "03", "submission_id": None},
]
USAGE = {"CPU": [15.5, 16.0], "GPU": [1.0, 1.0], "memory": [0.0, 1.0]}


def group(job: str, asked: int, *bundles: dict[str, float], state: str = "PENDING") -> dict[str, Any]:
    return {
        "creator_job_id": job,
        "state": state,
        "bundles": [{"unit_resources": bundle} for bundle in bundles],
        "stats": {"creation_request_received_ns": str(asked)},
    }


def test_whoever_asked_first_is_first() -> None:
    found = waits(JOBS, [group("02", 20, {"CPU": 1.0}), group("01", 10, {"CPU": 1.0})], USAGE)
    assert {name: wait.position for name, wait in found.items()} == {"first": 1, "second": 2}


def test_the_reason_names_what_is_needed_and_what_is_in_use() -> None:
    found = waits(JOBS, [group("01", 10, {"CPU": 0.5}, {"CPU": 0.5, "GPU": 1.0})], USAGE)
    assert found["first"].reason == ("waits for 1 CPUs and 1 GPUs, while 15.5 of 16 CPUs and 1 of 1 GPUs are in use")


def test_what_was_placed_does_not_wait() -> None:
    assert not waits(JOBS, [group("01", 10, {"CPU": 1.0}, state="CREATED")], USAGE)


def test_what_is_no_run_is_not_in_the_queue() -> None:
    found = waits(
        JOBS, [group("03", 5, {"CPU": 1.0}), group("09", 6, {"CPU": 1.0}), group("01", 10, {"CPU": 1.0})], USAGE
    )
    assert {name: wait.position for name, wait in found.items()} == {"first": 1}
