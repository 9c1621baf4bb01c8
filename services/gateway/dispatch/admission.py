"""Admission: what may wait, and who has to go when there is no room."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.gateway.dispatch.request_queue import RequestQueue, Waiting
from services.gateway.requests.request import Request
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


def make_room(limits: Limits, waiting: Waiting, queues: Callable[[], Sequence[RequestQueue]], request: Request) -> None:
    """Sees to it that a request fits into the queues of its policy.

    An interactive request pushes out what nobody waits for, the latest first and no more than it needs, but nothing if
    it would not fit all the same. Empty queues accept any request, even one over the limit.

    Args:
        limits: How much may wait.
        waiting: What waits in all queues of the policy.
        queues: Gives those queues.
        request: The request, which has just arrived.

    Raises:
        ResourceExhaustedError: If there is no room.
    """
    size_bytes = request.size * request.version.row_bytes
    if _fits(limits, waiting.observations, waiting.size_bytes, request.size, size_bytes):
        return
    kept, kept_bytes = waiting.observations - waiting.sheddable, waiting.size_bytes - waiting.sheddable_bytes
    if not request.interactive or not _fits(limits, kept, kept_bytes, request.size, size_bytes):
        raise ResourceExhaustedError(
            f"expected room for {request.size} observations ({size_bytes} bytes), but {waiting.observations} of "
            f"{limits.observations} ({waiting.size_bytes} of {limits.size_bytes} bytes) wait already",
            limits.pushback_milliseconds,
        )
    error = ResourceExhaustedError("gave way to interactive requests", limits.pushback_milliseconds)
    while not _fits(limits, waiting.observations, waiting.size_bytes, request.size, size_bytes):
        latest = [found.request for queue in queues() if (found := queue.latest_sheddable) is not None]
        max(latest, key=lambda other: other.arrived).fail(error, request.arrived)


def _fits(limits: Limits, waiting: int, waiting_bytes: int, observations: int, size_bytes: int) -> bool:
    return waiting == 0 or (
        waiting + observations <= limits.observations and waiting_bytes + size_bytes <= limits.size_bytes
    )
