"""The queue of one version of a policy: segments of requests, first come, first served."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from services.gateway.requests import Segment


class RequestQueue:
    """A queue that forms batches as it is emptied.

    Attributes:
        waiting: Observations in the queue; those of abandoned requests count until they are passed over.
    """

    __slots__ = ("_segments", "waiting")

    def __init__(self) -> None:
        self._segments: deque[Segment] = deque()
        self.waiting = 0

    def push(self, segment: Segment) -> None:
        """Adds a segment behind all others."""
        self._segments.append(segment)
        self.waiting += segment.size

    def push_front(self, segments: Iterable[Segment]) -> None:
        """Puts segments that were taken before back in front, in their order."""
        returned = list(segments)
        self._segments.extendleft(reversed(returned))
        self.waiting += sum(segment.size for segment in returned)

    def take(self, limit: int, share: int) -> list[Segment]:
        """Takes the next batch.

        A request that has finished meanwhile (abandoned by its caller, or failed) is passed over, so it costs no
        compute. A segment larger than the limit is split; smaller ones are kept whole.

        Args:
            limit: The most observations in the batch; at least 1.
            share: Enough observations for this batch; it stops growing there, so that other replicas get theirs.

        Returns:
            The segments, in the order in which they came; empty if nothing waits.
        """
        batch: list[Segment] = []
        size = 0
        segments = self._segments
        while segments and size < share:
            segment = segments.popleft()
            self.waiting -= segment.size
            if segment.request.finished:
                continue
            if segment.size > limit and not batch:
                segment, rest = segment.split(limit)
                self.push_front([rest])
            fits = size + segment.size <= limit and not (batch and segment.request.isolated)
            if not fits:
                self.push_front([segment])
                break
            batch.append(segment)
            size += segment.size
            if segment.request.isolated:
                break
        return batch

    def drain(self) -> list[Segment]:
        """Takes everything."""
        segments = list(self._segments)
        self._segments.clear()
        self.waiting = 0
        return segments
