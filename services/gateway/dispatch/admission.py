"""Admission: what may wait, and who has to go when there is no room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.gateway.dispatch.request_queue import RequestQueue
from services.gateway.requests.request import Segment
from steersman.errors import ResourceExhaustedError


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may wait for one policy.

    Attributes:
        observations: Observations.
        size_bytes: Bytes of them.
        pushback_milliseconds: When to try again, for those who are refused.
    """

    observations: int
    size_bytes: int
    pushback_milliseconds: int


def make_room(limits: Limits, queues: Sequence[RequestQueue], segment: Segment, now: float) -> None:
    """Sees to it that a request fits into the queues of its policy.

    An interactive request pushes out what nobody waits for, the latest first and no more than it needs, but nothing if
    it would not fit all the same. Empty queues accept any request, even one over the limit.

    Args:
        limits: How much may wait.
        queues: All queues of the policy.
        segment: The whole request.
        now: Seconds of `time.monotonic`.

    Raises:
        ResourceExhaustedError: If there is no room.
    """
    waiting = sum([queue.waiting for queue in queues])
    waiting_bytes = sum([queue.waiting_bytes for queue in queues])
    if _fits(limits, waiting, waiting_bytes, segment):
        return
    if segment.request.interactive:
        kept = waiting - sum([queue.sheddable for queue in queues])
        kept_bytes = waiting_bytes - sum([queue.sheddable_bytes for queue in queues])
        if _fits(limits, kept, kept_bytes, segment):
            _shed(limits, queues, segment, now)
            return
    raise ResourceExhaustedError(
        f"expected room for {segment.size} observations ({segment.size_bytes} bytes), but {waiting} of "
        f"{limits.observations} ({waiting_bytes} of {limits.size_bytes} bytes) wait already",
        limits.pushback_milliseconds,
    )


def _shed(limits: Limits, queues: Sequence[RequestQueue], segment: Segment, now: float) -> None:
    """Fails requests that nobody waits for until there is room; all of them together must make enough."""
    error = ResourceExhaustedError("gave way to interactive requests", limits.pushback_milliseconds)
    while not _fits(
        limits, sum([queue.waiting for queue in queues]), sum([queue.waiting_bytes for queue in queues]), segment
    ):
        latest = [found.request for queue in queues if (found := queue.latest_sheddable) is not None]
        max(latest, key=lambda request: request.arrived).fail(error, now)


def _fits(limits: Limits, waiting: int, waiting_bytes: int, segment: Segment) -> bool:
    return waiting == 0 or (
        waiting + segment.size <= limits.observations and waiting_bytes + segment.size_bytes <= limits.size_bytes
    )
