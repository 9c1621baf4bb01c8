"""Lanes: what may share a batch, and whose turn it is."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.gateway.dispatch.request_queue import RequestQueue
from services.gateway.requests.options import Options


@dataclass(frozen=True, slots=True)
class Lane:
    """What may share a batch: requests for one version with the same options.

    Attributes:
        version: The number of the version.
        options: The options.
        queue: What waits.
    """

    version: int
    options: Options
    queue: RequestQueue = field(default_factory=RequestQueue)


def turn(lane: Lane) -> tuple[bool, bool, float]:
    """Orders lanes: what went wrong first, interactive requests before others, then whoever has waited longest."""
    head = lane.queue.head
    assert head is not None  # noqa: S101 - only lanes in which something waits are ordered
    return not head.request.isolated, not head.request.interactive, head.request.arrived
