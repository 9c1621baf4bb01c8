"""Which runs wait for resources that others use now, where in the queue, and for what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.trainer.cluster.resources import amounts

_PENDING = "PENDING"


@dataclass(frozen=True)
class Wait:
    """What a run waits for.

    Attributes:
        position: Its place in the queue, counted from 1. Ray gives resources to whoever fits first, so a smaller run
            may overtake.
        reason: What it needs and what is in use, in one sentence.
    """

    position: int
    reason: str


def waits(
    jobs: Iterable[Mapping[str, Any]],
    groups: Iterable[Mapping[str, Any]],
    usage: Mapping[str, Sequence[float]],
) -> dict[str, Wait]:
    """Tells which jobs wait.

    Args:
        jobs: Ray's jobs, as its state API lists them.
        groups: Ray's placement groups, likewise: one for the processes of each trial.
        usage: What is used and what there is of each resource, as Ray's autoscaler reports it.

    Returns:
        The waiting jobs by their submission ids.
    """
    submissions = {job["job_id"]: job["submission_id"] for job in jobs if job.get("submission_id")}
    pending = sorted(
        (group for group in groups if group["state"] == _PENDING and group["creator_job_id"] in submissions),
        key=lambda group: int(group["stats"]["creation_request_received_ns"]),
    )
    found: dict[str, Wait] = {}
    for group in pending:
        submission = submissions[group["creator_job_id"]]
        if submission not in found:
            found[submission] = Wait(len(found) + 1, _reason(group, usage))
    return found


def _reason(group: Mapping[str, Any], usage: Mapping[str, Sequence[float]]) -> str:
    needed: dict[str, float] = {}
    for bundle in group["bundles"]:
        for name, amount in bundle["unit_resources"].items():
            needed[name] = needed.get(name, 0.0) + amount
    needed = {name: amount for name, amount in needed.items() if name in usage and amount > 0}
    used = " and ".join(f"{usage[name][0]:g} of {amounts({name: usage[name][1]})}" for name in needed)
    return f"waits for {amounts(needed)}, while {used} are in use"
