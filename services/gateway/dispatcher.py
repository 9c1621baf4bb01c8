"""The heart of the gateway: one policy's queues, its attached replicas, and who gets what.

Invariants, which the property tests hold it to:

- a request is finished exactly once, and answered only with its own actions, in its own order;
- a segment is in one place: in a queue, in one batch of one attachment, or done;
- while a replica could take a batch that would not be better sent later, nothing waits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from services.gateway.attachment import Attachment
from services.gateway.batch import Batch
from services.gateway.request_queue import RequestQueue
from services.gateway.requests import Request, Segment
from services.gateway.versions import Version
from steersman.errors import InternalError, NotFoundError, SteersmanError, UnavailableError

MAX_ATTEMPTS = 3
"""Replicas that a request may be lost with before it is taken for the cause and fails."""


class Dispatcher:
    """Batches the requests for one policy and spreads them over its replicas.

    Args:
        policy: The policy's name, for messages.
        call_soon: Runs a function after what is ready now; the event loop's `call_soon`.
    """

    def __init__(self, policy: str, call_soon: Callable[[Callable[[], None]], object]) -> None:
        self.policy = policy
        self._call_soon = call_soon
        self._attachments: list[Attachment] = []
        self._queues: dict[int, RequestQueue] = {}
        self._versions: dict[int, Version] = {}
        self._dispatch_is_due = False

    @property
    def attachments(self) -> list[Attachment]:
        """The attached replicas; those attached longest first."""
        return self._attachments

    @property
    def versions(self) -> dict[int, Version]:
        """The versions that at least one replica would compute, by number, ascending."""
        return self._versions

    @property
    def default_version(self) -> Version | None:
        """The version that requests go to which name none: the newest that is loaded."""
        return self._versions[max(self._versions)] if self._versions else None

    @property
    def waiting(self) -> int:
        """Observations that wait for a replica."""
        return sum(queue.waiting for queue in self._queues.values())

    def submit(self, request: Request) -> None:
        """Takes a request; it will be dispatched together with whatever else is ready now."""
        self._push(Segment(request, 0, request.observation.size))

    def attach(self, attachment: Attachment) -> None:
        """Takes a replica."""
        self._attachments.append(attachment)
        self.replica_changed()

    def detach(self, attachment: Attachment) -> None:
        """Lets a replica go; what it holds goes to another one, first in line."""
        self._attachments.remove(attachment)
        segments = [segment for batch in attachment.take_back_all() for segment in batch.segments]
        for request in {segment.request: None for segment in segments}:
            request.attempts += 1
            # Whoever was there twice computes alone from now on, so that one bad request cannot fail the others.
            request.isolated = request.attempts > 1
            if request.attempts >= MAX_ATTEMPTS:
                request.fail(InternalError(f"expected an answer, but {MAX_ATTEMPTS} replicas were lost with it"))
        self._return(segments)
        self.replica_changed()

    def replica_changed(self) -> None:
        """Looks again at who can do what: a replica came, went, is leaving or has announced itself anew."""
        self._versions = dict(
            sorted(
                (number, version)
                for attachment in self._attachments
                if not attachment.leaving
                for number, version in attachment.versions.items()
            )
        )
        if self._attachments:
            self._rehome()
        self._dispatch_soon()

    def answer(self, attachment: Attachment, batch_id: int, outcome: Callable[[Batch], None]) -> None:
        """Takes a replica's result for a batch.

        Args:
            attachment: The replica.
            batch_id: The batch's id.
            outcome: Answers the batch, or raises why there is no answer.

        Raises:
            InvalidArgumentError: If the replica does not hold such a batch.
        """
        batch = attachment.take_back(batch_id)
        try:
            outcome(batch)
        except UnavailableError:
            # The replica cannot compute this version any more; others can, or nobody.
            self._return(batch.segments)
            self._rehome()
        except SteersmanError as error:
            if len(batch.segments) == 1:
                batch.segments[0].request.fail(error)
            else:
                # One of them is the cause: alone, only that one fails.
                for segment in batch.segments:
                    segment.request.isolated = True
                self._return(batch.segments)
        self._dispatch_soon()

    def fail_all(self, error: SteersmanError) -> None:
        """Fails everything that waits."""
        for queue in self._queues.values():
            for segment in queue.drain():
                segment.request.fail(error)

    def _push(self, segment: Segment) -> None:
        self._queue(segment.request.version.number).push(segment)
        self._dispatch_soon()

    def _return(self, segments: Iterable[Segment]) -> None:
        """Puts segments back, first in line."""
        for segment in reversed(list(segments)):
            self._queue(segment.request.version.number).push_front([segment])

    def _queue(self, version: int) -> RequestQueue:
        queue = self._queues.get(version)
        if queue is None:
            queue = self._queues[version] = RequestQueue()
        return queue

    def _rehome(self) -> None:
        """Moves what waits for a version that no replica has any more to the version that took its place."""
        for number in [number for number in self._queues if number not in self._versions]:
            for segment in self._queues.pop(number).drain():
                self._move(segment)

    def _move(self, segment: Segment) -> None:
        request = segment.request
        successor = self.default_version
        if request.finished:
            return
        if request.pinned:
            request.fail(
                NotFoundError(
                    f"expected version {request.version.number} of policy {self.policy!r}, "
                    "but its last replica has unloaded it"
                )
            )
        elif successor is None:
            # Replicas are there but have nothing loaded, so one will.
            self._queue(request.version.number).push(segment)
        elif successor.observation != request.version.observation or segment.size != request.observation.size:
            request.fail(UnavailableError(f"policy {self.policy!r} moved on to version {successor.number} meanwhile"))
        else:
            request.version = successor
            self._queue(successor.number).push(segment)

    def _dispatch_soon(self) -> None:
        """Dispatches after everything that is ready now, so that requests which came together travel together."""
        if not self._dispatch_is_due:
            self._dispatch_is_due = True
            self._call_soon(self._dispatch)

    def _dispatch(self) -> None:
        self._dispatch_is_due = False
        for number, queue in self._queues.items():
            if queue.waiting:
                self._dispatch_version(number, queue)

    def _dispatch_version(self, number: int, queue: RequestQueue) -> None:
        """Gives what waits for one version to the replicas that can take it, the idlest first."""
        while queue.waiting:
            candidates = [attachment for attachment in self._attachments if attachment.can_take(number)]
            if not candidates:
                break
            idlest = min(candidates, key=_busyness)
            # An even share for each replica that is as idle, so that none takes everything.
            equals = sum(attachment.in_flight == idlest.in_flight for attachment in candidates)
            segments = queue.take(idlest.max_batch_size, -(-queue.waiting // equals))
            if segments:
                self._give(idlest, self._versions[number], segments, queue.waiting)

    def _give(self, attachment: Attachment, version: Version, segments: list[Segment], still_waiting: int) -> None:
        now = time.monotonic()
        for segment in segments:
            segment.request.departed = segment.request.departed or now
        attachment.give(version, segments, still_waiting)


def _busyness(attachment: Attachment) -> tuple[int, int]:
    """Orders replicas by the batches they hold, then by how lately they were given one."""
    return attachment.in_flight, attachment.last_given
