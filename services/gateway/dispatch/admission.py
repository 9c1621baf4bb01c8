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


def make_room(limits: Limits, queues: Sequence[RequestQueue], segment: Segment) -> None:
    """Sees to it that a request fits into the queue.

    An interactive request pushes out what nobody waits for, the latest first. What is in a queue that is empty always
    fits, so that a request larger than the limit is not refused for ever.

    Args:
        limits: How much may wait.
        queues: All queues of the policy.
        segment: The whole request.

    Raises:
        ResourceExhaustedError: If there is no room.
    """
    if _fits(limits, queues, segment):
        return
    if segment.request.interactive:
        shed = ResourceExhaustedError("gave way to interactive requests", limits.pushback_milliseconds)
        for queue in queues:
            if not _fits(limits, queues, segment):
                queue.shed(segment.size, segment.size_bytes, shed)
        if _fits(limits, queues, segment):
            return
    waiting = sum([queue.waiting for queue in queues])
    waiting_bytes = sum([queue.waiting_bytes for queue in queues])
    raise ResourceExhaustedError(
        f"expected room for {segment.size} observations ({segment.size_bytes} bytes), but {waiting} of "
        f"{limits.observations} ({waiting_bytes} of {limits.size_bytes} bytes) wait already",
        limits.pushback_milliseconds,
    )


def _fits(limits: Limits, queues: Sequence[RequestQueue], segment: Segment) -> bool:
    waiting = sum([queue.waiting for queue in queues])
    return waiting == 0 or (
        waiting + segment.size <= limits.observations
        and sum([queue.waiting_bytes for queue in queues]) + segment.size_bytes <= limits.size_bytes
    )
