"""A request while it waits: what it asks, what has been answered of it, and whom to tell."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from services.gateway.requests.options import GREEDY, Options
from services.gateway.requests.statistics import Statistics
from services.gateway.requests.versions import Version
from steersman.errors import InternalError, SteersmanError

_log = logging.getLogger(__name__)

_DEADLINE_SLACK_SECONDS = 0.05
"""How much earlier than a deadline gRPC may end a call for it: a busy process reads a little late what is left."""


class Queue(Protocol):
    """Where parts of a request wait."""

    def release(self, request: Request) -> None:
        """Frees the place of a request that has finished while parts of it were waiting."""


@dataclass(slots=True, eq=False, kw_only=True)
class Request:
    """One Act request. It finishes exactly once: answered, failed or abandoned, whichever comes first.

    Its callbacks may fail: that is logged, fails this request and concerns no other one. All times are seconds of
    `time.monotonic`.

    Attributes:
        policy: The policy that it is for.
        statistics: Where it is counted when it finishes.
        inputs: For each input of the version (observation, then state) the elements of all observations, as bytes.
        size: How many observations; at least 1.
        batched: Whether they came with a leading batch axis, so that the answer has one too.
        version: The version that is to answer it, and that its inputs are for.
        pinned: Whether only that version may answer it; else it follows the policy's traffic to another.
        arrived: Time at which it came.
        on_finished: Called when it is answered or has failed, but not when it is abandoned. If it raises an error for
            an answer, the request has failed, and it is called once more with that failure.
        options: How actions are chosen.
        seed: Seed of the draw, if they are drawn.
        interactive: Whether somebody waits for it; else it is served last and shed first.
        deadline: Time after which nobody wants the answer.
        session_ids: For each observation the session that keeps its state; empty if the client carries the state, or
            there is none.
        steps: For each session the number of this step in its episode; empty if the client does not count.
        on_unanswered: Takes back what accepting it changed; called if it ends without an answer, also if abandoned.
        outputs: The answer, once there is one: for each output of the version the elements of all observations.
        error: Why there is none, once it has failed.
        departed: Time at which its first part went to a replica.
        compute_microseconds: The longest time that a replica spent on a batch with a part of it.
        attempts: How often a replica was lost with a part of it.
        isolated: Whether it is to be computed in a batch of its own, since a batch with it went wrong.
        finished: Whether it has been answered, has failed or was abandoned.
        queue: The queue that parts of it wait in, if any do.
        waiting: Observations of it that wait there.
        waiting_segments: In how many segments.
    """

    policy: str
    statistics: Statistics
    inputs: tuple[bytes, ...]
    size: int
    batched: bool
    version: Version
    pinned: bool
    arrived: float
    on_finished: Callable[[Request], None]
    options: Options = GREEDY
    seed: int = 0
    interactive: bool = True
    deadline: float = math.inf
    session_ids: Sequence[str] = ()
    steps: Sequence[int] = ()
    on_unanswered: Callable[[], None] | None = None
    outputs: tuple[bytes, ...] = ()
    error: SteersmanError | None = None
    departed: float = 0.0
    compute_microseconds: int = 0
    attempts: int = 0
    isolated: bool = False
    finished: bool = False
    queue: Queue | None = None
    waiting: int = 0
    waiting_segments: int = 0
    _parts: dict[int, Sequence[bytes]] = field(default_factory=dict)
    _answered: int = 0

    def answer(self, start: int, size: int, outputs: Sequence[bytes], compute_microseconds: int, now: float) -> None:
        """Takes the answer for some of the observations; the last ones finish the request.

        Args:
            start: Index of the first of them.
            size: How many.
            outputs: For each output of the version the elements of those observations.
            compute_microseconds: What the batch took.
            now: Seconds of `time.monotonic`.
        """
        if self.finished:
            return
        self._answered += size
        self.compute_microseconds = max(self.compute_microseconds, compute_microseconds)
        if size == self.size:
            self.outputs = tuple(outputs)
        else:
            self._parts[start] = outputs
            if self._answered < self.size:
                return
            ordered = [self._parts[index] for index in sorted(self._parts)]
            self.outputs = tuple(b"".join(pieces) for pieces in zip(*ordered, strict=True))
        self.finished = True
        try:
            self.on_finished(self)
        except Exception:  # noqa: BLE001 - whatever it is, it concerns no one else
            _log.exception("a request for policy %s fails, since its answer could not be handed on", self.policy)
            self.outputs = ()
            self._end(InternalError("expected to hand on the answer, but the gateway failed at it"), now)
        else:
            self.statistics.count_answered(
                self.version.number, self.arrived, self.departed, self.compute_microseconds / 1e6, now
            )

    def fail(self, error: SteersmanError, now: float) -> None:
        """Finishes the request without an answer.

        Args:
            error: Why.
            now: Seconds of `time.monotonic`.
        """
        if not self.finished:
            self.finished = True
            self._leave_queue()
            self._end(error, now)

    def abandon(self, now: float) -> None:
        """Finishes the request silently: nobody waits for it any more, since it was cancelled or its deadline passed.

        Args:
            now: Seconds of `time.monotonic`.
        """
        if not self.finished:
            self.finished = True
            self._leave_queue()
            self._take_back()
            is_expired = now >= self.deadline - _DEADLINE_SLACK_SECONDS
            self.statistics.count_abandoned(self.version.number, now - self.arrived, is_expired=is_expired)

    def _end(self, error: SteersmanError, now: float) -> None:
        self.error = error
        self._take_back()
        self.statistics.count_failed(self.version.number, error, now - self.arrived)
        try:
            self.on_finished(self)
        except Exception:  # noqa: BLE001 - whatever it is, it concerns no one else
            _log.exception("the caller of a request for policy %s could not be told of its failure", self.policy)

    def _take_back(self) -> None:
        if self.on_unanswered is not None:
            try:
                self.on_unanswered()
            except Exception:  # noqa: BLE001 - whatever it is, it concerns no one else
                _log.exception("what a request for policy %s had changed could not be taken back", self.policy)

    def _leave_queue(self) -> None:
        if self.waiting_segments and self.queue is not None:
            self.queue.release(self)


@dataclass(slots=True, eq=False)
class Segment:
    """Some consecutive observations of a request: all of them, unless the request is larger than a batch.

    Attributes:
        request: The request.
        start: Index of the first observation.
        size: How many; at least 1.
    """

    request: Request
    start: int
    size: int

    @property
    def size_bytes(self) -> int:
        """Bytes of its inputs."""
        return self.size * self.request.version.row_bytes

    def split(self, size: int) -> tuple[Segment, Segment]:
        """Cuts the segment in two, the first with so many observations."""
        return (
            Segment(self.request, self.start, size),
            Segment(self.request, self.start + size, self.size - size),
        )

    def data(self, index: int, row_bytes: int) -> bytes | memoryview:
        """Gives the elements of one input, without a copy.

        Raises:
            InternalError: If they are a part of an input that is not of the request's size.
        """
        elements = self.request.inputs[index]
        if self.size == self.request.size:
            return elements
        if len(elements) != self.request.size * row_bytes:
            raise InternalError(f"expected {self.request.size * row_bytes} bytes of an input, got {len(elements)}")
        return memoryview(elements)[self.start * row_bytes : (self.start + self.size) * row_bytes]
