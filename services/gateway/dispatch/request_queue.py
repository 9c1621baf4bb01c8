"""A queue of segments: interactive ones before the others, and within each kind first come, first served."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from services.gateway.requests.request import Segment
from steersman.errors import DeadlineExceededError, SteersmanError


class RequestQueue:
    """A queue that forms batches as it is emptied.

    Attributes:
        waiting: Observations in the queue; those of abandoned requests count until they are passed over.
        waiting_bytes: Bytes of their inputs.
    """

    __slots__ = ("_batch", "_interactive", "waiting", "waiting_bytes")

    def __init__(self) -> None:
        self._interactive: deque[Segment] = deque()
        self._batch: deque[Segment] = deque()
        self.waiting = 0
        self.waiting_bytes = 0

    @property
    def head(self) -> Segment | None:
        """The segment that is next in line, if any waits."""
        segments = self._interactive or self._batch
        return segments[0] if segments else None

    @property
    def head_is_isolated(self) -> bool:
        """Whether the segment that is next in line is to be computed alone."""
        head = self.head
        return head is not None and head.request.isolated

    def push(self, segment: Segment) -> None:
        """Adds a segment behind the others of its kind."""
        self._segments(segment).append(segment)
        self._count(segment, 1)

    def push_front(self, segments: Iterable[Segment]) -> None:
        """Puts segments that were taken before back in front, in their order."""
        for segment in reversed(list(segments)):
            self._segments(segment).appendleft(segment)
            self._count(segment, 1)

    def take(self, limit: int, share: int, now: float) -> list[Segment]:
        """Takes the next batch.

        A request that has finished meanwhile (abandoned by its caller, or failed) is passed over, and one whose
        deadline has passed is failed, so neither costs compute. A segment larger than the limit is split; smaller ones
        are kept whole.

        Args:
            limit: The most observations in the batch; at least 1.
            share: Enough observations for this batch; it stops growing there, so that other replicas get theirs.
            now: Time.

        Returns:
            The segments, in the order in which they came; empty if nothing waits.
        """
        batch: list[Segment] = []
        size = 0
        while size < share and (segments := self._interactive or self._batch):
            segment = segments.popleft()
            self._count(segment, -1)
            request = segment.request
            if request.finished:
                continue
            if request.deadline <= now:
                request.fail(DeadlineExceededError("the deadline passed while the request waited for a replica"))
                continue
            if segment.size > limit and not batch:
                segment, rest = segment.split(limit)
                self.push_front([rest])
            if size + segment.size > limit or (batch and request.isolated):
                self.push_front([segment])
                break
            batch.append(segment)
            size += segment.size
            if request.isolated:
                break
        return batch

    def shed(self, observations: int, size_bytes: int, error: SteersmanError) -> None:
        """Fails requests that nobody waits for, the latest first, until so much has been freed or none is left.

        Args:
            observations: How many observations to free.
            size_bytes: How many bytes to free.
            error: What the requests fail with.
        """
        observations_left, bytes_left = self.waiting - observations, self.waiting_bytes - size_bytes
        while self._batch and (self.waiting > observations_left or self.waiting_bytes > bytes_left):
            segment = self._batch.pop()
            self._count(segment, -1)
            segment.request.fail(error)

    def expire(self, now: float) -> None:
        """Fails the requests whose deadline has passed; they stay in line until they are passed over."""
        for segments in (self._interactive, self._batch):
            for segment in list(segments):
                if segment.request.deadline <= now:
                    segment.request.fail(DeadlineExceededError("the deadline passed while no replica was free"))

    def drain(self) -> list[Segment]:
        """Takes everything."""
        segments = [*self._interactive, *self._batch]
        self._interactive.clear()
        self._batch.clear()
        self.waiting = self.waiting_bytes = 0
        return segments

    def _segments(self, segment: Segment) -> deque[Segment]:
        return self._interactive if segment.request.interactive else self._batch

    def _count(self, segment: Segment, sign: int) -> None:
        self.waiting += sign * segment.size
        self.waiting_bytes += sign * segment.size_bytes
