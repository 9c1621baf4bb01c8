"""A request while it waits: what it asks, what has been answered of it, and whom to tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from services.gateway.observations import Observation
from services.gateway.versions import Version
from steersman.errors import SteersmanError


@dataclass(slots=True, eq=False)
class Request:
    """One Act request. It finishes exactly once: answered, failed or abandoned, whichever comes first.

    Attributes:
        observation: What it brought.
        version: The version that is to answer it.
        pinned: Whether the caller asked for just that version; else it follows the policy's traffic to another.
        arrived: Loop time at which it came, in seconds.
        on_finished: Told when it is answered or has failed, but not when it is abandoned.
        action: The answer, once there is one: for each action tensor the elements of all actions.
        error: Why there is none, once it has failed.
        departed: Loop time at which its first part went to a replica.
        compute_microseconds: The longest time that a replica spent on a batch with a part of it.
        attempts: How often a replica was lost with a part of it.
        isolated: Whether it is to be computed in a batch of its own, since a batch with it went wrong.
        finished: Whether it has been answered, has failed or was abandoned.
    """

    observation: Observation
    version: Version
    pinned: bool
    arrived: float
    on_finished: Callable[[Request], None]
    action: tuple[bytes, ...] = ()
    error: SteersmanError | None = None
    departed: float = 0.0
    compute_microseconds: int = 0
    attempts: int = 0
    isolated: bool = False
    finished: bool = False
    _parts: dict[int, Sequence[bytes]] = field(default_factory=dict)
    _answered: int = 0

    def answer(self, start: int, size: int, action: Sequence[bytes], compute_microseconds: int) -> None:
        """Takes the actions for some of the observations; the last ones finish the request.

        Args:
            start: Index of the first of them.
            size: How many.
            action: For each action tensor the elements of those actions.
            compute_microseconds: What the batch took.
        """
        if self.finished:
            return
        self._answered += size
        self.compute_microseconds = max(self.compute_microseconds, compute_microseconds)
        if size == self.observation.size:
            self.action = tuple(action)
        else:
            self._parts[start] = action
            if self._answered < self.observation.size:
                return
            ordered = [self._parts[index] for index in sorted(self._parts)]
            self.action = tuple(b"".join(pieces) for pieces in zip(*ordered, strict=True))
        self.finished = True
        self.on_finished(self)

    def fail(self, error: SteersmanError) -> None:
        """Finishes the request without an answer."""
        if not self.finished:
            self.error = error
            self.finished = True
            self.on_finished(self)

    def abandon(self) -> None:
        """Finishes the request silently: nobody waits for it any more."""
        self.finished = True


@dataclass(frozen=True, slots=True, eq=False)
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

    def split(self, size: int) -> tuple[Segment, Segment]:
        """Cuts the segment in two, the first with so many observations."""
        return (
            Segment(self.request, self.start, size),
            Segment(self.request, self.start + size, self.size - size),
        )

    def data(self, tensor: int, row_bytes: int) -> bytes | memoryview:
        """Gives the elements of one tensor, without a copy."""
        elements = self.request.observation.data[tensor]
        if self.size == self.request.observation.size:
            return elements
        return memoryview(elements)[self.start * row_bytes : (self.start + self.size) * row_bytes]
