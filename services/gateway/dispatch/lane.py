"""Lanes: what may share a batch, and which goes first."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from services.gateway.dispatch.request_queue import RequestQueue, Waiting
from services.gateway.requests.options import Options
from services.gateway.requests.request import Request, Segment


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
    queue: RequestQueue


def precedence(lane: Lane) -> tuple[bool, bool, float]:
    """Orders lanes: what went wrong first, interactive requests before others, then whoever has waited longest."""
    head = lane.queue.head
    assert head is not None  # noqa: S101 - only lanes in which something waits are ordered
    return not head.request.isolated, not head.request.interactive, head.request.arrived


class Lanes:
    """The lanes of one policy. A lane begins with its first request.

    Attributes:
        waiting: What waits in all of them.
    """

    def __init__(self) -> None:
        self.waiting = Waiting()
        self._lanes: dict[tuple[int, Options], Lane] = {}

    def __iter__(self) -> Iterator[Lane]:
        return iter(self._lanes.values())

    def queues(self) -> list[RequestQueue]:
        """Gives the queue of each."""
        return [lane.queue for lane in self._lanes.values()]

    def of(self, request: Request) -> Lane:
        """Gives the lane of a request."""
        key = (request.version.number, request.options)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(*key, RequestQueue(self.waiting))
        return lane

    def push(self, segment: Segment) -> None:
        """Puts a segment behind the others of its lane and kind."""
        self.of(segment.request).queue.push(segment)

    def push_front(self, segments: Iterable[Segment]) -> None:
        """Puts segments that were taken before back, first in line and in their order."""
        for segment in reversed(list(segments)):
            self.of(segment.request).queue.push_front([segment])

    def drain_version(self, version: int) -> list[Segment]:
        """Takes everything that waits for a version."""
        return [segment for lane in self if lane.version == version for segment in lane.queue.drain()]

    def drain_others(self, versions: Collection[int]) -> list[Segment]:
        """Takes everything that waits for other versions than these, and ends their lanes."""
        others = [key for key in self._lanes if key[0] not in versions]
        return [segment for key in others for segment in self._lanes.pop(key).queue.drain()]
