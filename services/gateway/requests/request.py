"""A request while it waits: what it asks, what has been answered of it, and whom to tell."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from services.gateway.requests.options import GREEDY, Options
from services.gateway.requests.statistics import Statistics
from services.gateway.requests.versions import Version
from steersman.errors import SteersmanError

_DEADLINE_SLACK_SECONDS = 0.005
"""gRPC's clock and the event loop's may disagree by so much on when a deadline passes."""


@dataclass(slots=True, eq=False)
class Request:
    """One Act request. It finishes exactly once: answered, failed or abandoned, whichever comes first.

    Attributes:
        policy: The policy that it is for.
        statistics: Where it is counted when it finishes.
        inputs: For each input of the version (observation, then state) the elements of all observations, as bytes.
        size: How many observations; at least 1.
        batched: Whether they came with a leading batch axis, so that the answer has one too.
        version: The version that is to answer it.
        pinned: Whether only that version may answer it; else it follows the policy's traffic to another.
        arrived: Time at which it came, in seconds.
        on_finished: Told when it is answered or has failed, but not when it is abandoned.
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
    _parts: dict[int, Sequence[bytes]] = field(default_factory=dict)
    _answered: int = 0

    def answer(self, start: int, size: int, outputs: Sequence[bytes], compute_microseconds: int) -> None:
        """Takes the answer for some of the observations; the last ones finish the request.

        Args:
            start: Index of the first of them.
            size: How many.
            outputs: For each output of the version the elements of those observations.
            compute_microseconds: What the batch took.
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
        self.statistics.answered += 1
        self.on_finished(self)

    def fail(self, error: SteersmanError) -> None:
        """Finishes the request without an answer."""
        if not self.finished:
            self.error = error
            self.finished = True
            if self.on_unanswered is not None:
                self.on_unanswered()
            self.statistics.count_failure(error)
            self.statistics.version(self.version.number).failed.add(time.monotonic() - self.arrived)
            self.on_finished(self)

    def abandon(self, now: float) -> None:
        """Finishes the request silently: nobody waits for it any more, since it was cancelled or its deadline passed.

        Args:
            now: Time.
        """
        if not self.finished:
            self.finished = True
            if self.on_unanswered is not None:
                self.on_unanswered()
            self.statistics.version(self.version.number).failed.add(now - self.arrived)
            if now >= self.deadline - _DEADLINE_SLACK_SECONDS:
                self.statistics.expired += 1
            else:
                self.statistics.cancelled += 1


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
        """Gives the elements of one input, without a copy."""
        elements = self.request.inputs[index]
        if self.size == self.request.size:
            return elements
        return memoryview(elements)[self.start * row_bytes : (self.start + self.size) * row_bytes]
