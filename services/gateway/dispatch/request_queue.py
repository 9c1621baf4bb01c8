"""A queue of segments: interactive ones before the others, and within each kind first come, first served."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from services.gateway.requests.request import Request, Segment
from steersman.errors import DeadlineExceededError, SteersmanError

_FEWEST_TO_SWEEP = 64
"""Segments of finished requests that are left in line, however few others there are."""

_FEWEST_BYTES_TO_SWEEP = 1024 * 1024
"""Bytes of such segments that are left in line, however little else there is."""


@dataclass(slots=True)
class Waiting:
    """What waits in all queues of a policy.

    Attributes:
        observations: Observations.
        size_bytes: Bytes of their inputs.
        sheddable: Observations that nobody waits for.
        sheddable_bytes: Bytes of their inputs.
    """

    observations: int = 0
    size_bytes: int = 0
    sheddable: int = 0
    sheddable_bytes: int = 0


class RequestQueue:
    """A queue that forms batches as it is emptied.

    A request that finishes while it waits (abandoned, failed, expired) frees its place at once: it no longer counts.
    Its segments are passed over when their turn comes, or swept out when most of what is in line is of that kind, by
    number or by bytes.

    Args:
        total: Where it counts what waits, as the other queues of its policy do.

    Attributes:
        waiting: Observations that wait here.
    """

    __slots__ = ("_batch", "_finished", "_finished_bytes", "_interactive", "_total", "waiting")

    def __init__(self, total: Waiting) -> None:
        self._total = total
        self._interactive: deque[Segment] = deque()
        self._batch: deque[Segment] = deque()
        # Segments in line whose requests have finished, and their bytes.
        self._finished = self._finished_bytes = 0
        self.waiting = 0

    @property
    def head(self) -> Segment | None:
        """The segment that is next in line, if any waits."""
        while segments := self._interactive or self._batch:
            if not segments[0].request.finished:
                return segments[0]
            self._pass_over(segments.popleft())
        return None

    @property
    def head_is_isolated(self) -> bool:
        """Whether the segment that is next in line is to be computed alone."""
        head = self.head
        return head is not None and head.request.isolated

    @property
    def latest_sheddable(self) -> Segment | None:
        """The segment that came last of those that nobody waits for, if there is one."""
        while self._batch and self._batch[-1].request.finished:
            self._pass_over(self._batch.pop())
        return self._batch[-1] if self._batch else None

    def push(self, segment: Segment) -> None:
        """Adds a segment behind the others of its kind, unless its request has finished."""
        request = segment.request
        if not request.finished:
            (self._interactive if request.interactive else self._batch).append(segment)
            self._enter(request, segment.size)

    def push_front(self, segments: Iterable[Segment]) -> None:
        """Puts segments that were taken before back in front, in their order; finished requests are left out."""
        for segment in reversed(list(segments)):
            request = segment.request
            if not request.finished:
                (self._interactive if request.interactive else self._batch).appendleft(segment)
                self._enter(request, segment.size)

    def take(self, limit: int, share: int, now: float) -> list[Segment]:
        """Takes the next batch.

        A request whose deadline has passed is failed, so that it costs no compute. A segment larger than the limit is
        split; smaller ones are kept whole.

        Args:
            limit: The most observations in the batch; at least 1.
            share: Enough observations for this batch; it stops growing there, so that other replicas get theirs.
            now: Seconds of `time.monotonic`.

        Returns:
            The segments, in the order in which they came; empty if nothing waits.
        """
        batch: list[Segment] = []
        size = 0
        while size < share and (segments := self._interactive or self._batch):
            segment = segments[0]
            request = segment.request
            if request.finished:
                self._pass_over(segments.popleft())
                continue
            if request.deadline <= now:
                request.fail(DeadlineExceededError("the deadline passed while the request waited for a replica"), now)
                continue
            if batch and (request.isolated or size + segment.size > limit):
                break
            segments.popleft()
            self._exit(request, segment.size, 1)
            if segment.size > limit:
                segment, rest = segment.split(limit)
                self.push_front([rest])
            batch.append(segment)
            size += segment.size
            if request.isolated:
                break
        return batch

    def release(self, request: Request) -> None:
        """Frees the place of a request that has finished while parts of it were waiting; called by the request."""
        self._finished += request.waiting_segments
        self._finished_bytes += request.waiting * request.version.row_bytes
        self._exit(request, request.waiting, request.waiting_segments)
        if self._finished > max(_FEWEST_TO_SWEEP, (len(self._interactive) + len(self._batch)) // 2) or (
            self._finished_bytes > max(_FEWEST_BYTES_TO_SWEEP, self._total.size_bytes)
        ):
            self._sweep()

    def expire(self, now: float) -> None:
        """Fails the requests whose deadline has passed.

        Args:
            now: Seconds of `time.monotonic`.
        """
        for segments in (self._interactive, self._batch):
            for segment in list(segments):
                if segment.request.deadline <= now:
                    error = DeadlineExceededError("the deadline passed while no replica was free")
                    segment.request.fail(error, now)

    def drain(self) -> list[Segment]:
        """Takes everything that waits."""
        self._sweep()
        segments = [*self._interactive, *self._batch]
        self._interactive.clear()
        self._batch.clear()
        for segment in segments:
            self._exit(segment.request, segment.size, 1)
        return segments

    def fail_all(self, error: SteersmanError, now: float) -> None:
        """Fails everything that waits.

        Args:
            error: Why.
            now: Seconds of `time.monotonic`.
        """
        for segment in self.drain():
            segment.request.fail(error, now)

    def _pass_over(self, finished: Segment) -> None:
        self._finished -= 1
        self._finished_bytes -= finished.size_bytes

    def _enter(self, request: Request, observations: int) -> None:
        request.queue = self
        request.waiting += observations
        request.waiting_segments += 1
        self.waiting += observations
        size_bytes = observations * request.version.row_bytes
        total = self._total
        total.observations += observations
        total.size_bytes += size_bytes
        if not request.interactive:
            total.sheddable += observations
            total.sheddable_bytes += size_bytes

    def _exit(self, request: Request, observations: int, segments: int) -> None:
        request.waiting -= observations
        request.waiting_segments -= segments
        self.waiting -= observations
        size_bytes = observations * request.version.row_bytes
        total = self._total
        total.observations -= observations
        total.size_bytes -= size_bytes
        if not request.interactive:
            total.sheddable -= observations
            total.sheddable_bytes -= size_bytes

    def _sweep(self) -> None:
        """Drops the segments of finished requests."""
        self._interactive = deque(segment for segment in self._interactive if not segment.request.finished)
        self._batch = deque(segment for segment in self._batch if not segment.request.finished)
        self._finished = self._finished_bytes = 0
