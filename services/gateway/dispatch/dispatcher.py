"""The heart of the gateway: one policy's queues, its attached replicas, and who gets what.

Invariants, which the property tests hold it to:

- a request is finished exactly once, and answered only with its own actions, in its own order;
- a segment is in one place: in a lane's queue, in one batch of one attachment, or done;
- nothing waits while an idle replica could take it, but for an explicit queue delay;
- a batch and its answer fit into the messages that carry them;
- what fails unexpectedly fails the requests that it concerns, and nobody else, and no replica or version is blamed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping

from services.gateway.dispatch.admission import Limits, make_room
from services.gateway.dispatch.attachment import Attachment
from services.gateway.dispatch.attachments import Attachments
from services.gateway.dispatch.batching import Batching
from services.gateway.dispatch.fallback import Fallback
from services.gateway.dispatch.gathering import Gathering, Loop
from services.gateway.dispatch.lane import Lanes
from services.gateway.dispatch.migration import Migration
from services.gateway.dispatch.routes import Route, Shadow
from services.gateway.dispatch.shadow import ShadowStatistics
from services.gateway.dispatch.traffic import Traffic
from services.gateway.requests.batch import Batch
from services.gateway.requests.request import Request, Segment
from services.gateway.requests.statistics import Statistics
from services.gateway.requests.versions import Version
from steersman.errors import (
    DeadlineExceededError,
    InternalError,
    SteersmanError,
    UnavailableError,
)
from steersman.v1 import replica_pb2

_log = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
"""Replicas that a request may be lost with before it is taken for the cause and fails."""


class Dispatcher:
    """Batches the requests for one policy and spreads them over its replicas.

    Args:
        policy: The policy's name, for messages.
        limits: How much may wait.
        loop: The event loop that everything runs in.
        clock: Gives the time: seconds of `time.monotonic`, or another clock in tests. Not the event loop's, which may
            be as coarse as a millisecond.
        statistics: Where to count; None for counts of its own.

    Attributes:
        policy: The policy's name.
        clock: Gives the time that everything here is measured by.
        statistics: What has happened.
        shadow_statistics: What came of copies for the route's shadow.
    """

    def __init__(
        self,
        policy: str,
        limits: Limits,
        loop: Loop,
        clock: Callable[[], float] = time.monotonic,
        statistics: Statistics | None = None,
    ) -> None:
        self.policy = policy
        self.clock = clock
        self.statistics = statistics or Statistics()
        self.shadow_statistics = ShadowStatistics()
        self._limits = limits
        self._loop = loop
        self._attachments = Attachments()
        self._lanes = Lanes()
        self._traffic = Traffic()
        self._migration = Migration(policy, self._lanes, self._traffic)
        self._fallback = Fallback(policy, self._lanes, self._traffic, self._migration)
        self._batching = Batching(
            policy, self._lanes, self._traffic, self._attachments, self.statistics, self._dispatch_later
        )
        self._gathering = Gathering(loop, self._is_wanted, self._is_complete, self._dispatch)
        self._delay_is_running = False

    @property
    def attachments(self) -> list[Attachment]:
        """The attached replicas; those attached longest first."""
        return self._attachments.all

    @property
    def versions(self) -> dict[int, Version]:
        """The versions that at least one replica would compute, by number, ascending."""
        return self._traffic.versions

    @property
    def default_version(self) -> Version | None:
        """The loaded version that most requests go to which name none; the newest if there is no route."""
        return self._traffic.default_version

    @property
    def shadow(self) -> Shadow | None:
        """The version that gets copies of requests, if one does."""
        return self._traffic.shadow

    @property
    def serving(self) -> frozenset[int]:
        """The versions that requests go to now which name none."""
        return frozenset(self._traffic.serving)

    @property
    def is_split(self) -> bool:
        """Whether there is more than one version that requests may go to which name none."""
        return len(self._traffic.serving) > 1

    @property
    def has_memory(self) -> bool:
        """Whether a loaded version has memory."""
        return self._traffic.has_memory

    def pick(self, point: float) -> Version:
        """Picks the version for a request that names none, among those that are loaded; there must be one.

        Args:
            point: A point in [0, 1), drawn at random or given by `routes.point_of`.
        """
        return self._traffic.pick(point)

    @property
    def given_up(self) -> Mapping[int, str]:
        """Versions out of rotation, with the reason: each failed before its first answer."""
        return self._traffic.given_up

    @property
    def left_out(self) -> Mapping[int, str]:
        """Loaded versions of the route that get nothing, with the reason: they do not go together with the others."""
        return self._traffic.left_out

    @property
    def waiting(self) -> int:
        """Observations that wait for a replica."""
        return self._lanes.waiting.observations

    def set_route(self, route: Route | None, before: Route | None, revision: int = 0) -> None:
        """Splits traffic from now on; what waits already goes where it was going.

        Args:
            route: How.
            before: The route before, which holds while nothing of this one is loaded.
            revision: Of what is wanted. Whenever it changes, versions that were given up get another chance.
        """
        if (route.shadow if route else None) != self.shadow:
            self.shadow_statistics = ShadowStatistics()
        self._traffic.set_route(route, before, revision)

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Calls a function after what is ready now."""
        self._loop.call_soon(callback)

    def submit(self, request: Request) -> None:
        """Takes a request; it will be dispatched together with whatever else is ready now.

        Raises:
            ResourceExhaustedError: If the queue is full.
        """
        make_room(self._limits, self._lanes.waiting, self._lanes.queues, request)
        self._lanes.push(Segment(request, 0, request.size))
        self._gathering.notify()

    def dispatch_if_full(self) -> None:
        """Sends off what waits now if that is a whole batch, so that it is computed while more is being read."""
        waiting = self._lanes.waiting.observations
        if self._attachments.fill_a_batch(waiting) and self._is_wanted():
            self._dispatch()

    def attach(self, attachment: Attachment) -> None:
        """Takes a replica."""
        self._attachments.add(attachment)
        try:
            self.replica_changed()
        except Exception:
            # Its connection ends with this error; nothing must be sent to it any more.
            self._attachments.remove(attachment)
            raise

    def detach(self, attachment: Attachment) -> None:
        """Lets a replica go; what it holds goes to another one, first in line."""
        now = self.clock()
        self._attachments.remove(attachment)
        lost = attachment.take_back_all()
        self.statistics.requeued_batches += len(lost)
        segments: list[Segment] = []
        for batch in lost:
            reason = f"the replica that computed its first batch was lost; version {batch.version.number} is to blame"
            try:
                segments += self._fallback.without(batch, reason, now, lost=True)
            except Exception:  # noqa: BLE001 - whatever it is, it concerns no one else
                self._fail_unexpectedly(batch, now)
        error = InternalError(f"expected an answer, but {MAX_ATTEMPTS} replicas were lost with it")
        self._try_again(segments, error, now)
        self.replica_changed()

    def replica_changed(self) -> None:
        """Looks again at who can do what: a replica came, went, is leaving or has announced itself anew."""
        now = self.clock()
        before = self._traffic.versions
        loaded = self._attachments.look()
        self._traffic.set_loaded(loaded)
        if self._attachments.all:
            self._migration.leave_unloaded_versions(now)
        for number, version in loaded.items():
            if (earlier := before.get(number)) is not None and not version.takes_the_same_as(earlier):
                self._migration.leave_changed_version(version, now)
        self._gathering.notify()

    def replica_resumed(self) -> None:
        """Looks again at who wants work: a replica has read what it was sent."""
        self._gathering.notify()

    def answered(self, attachment: Attachment, batch_id: int, answer: replica_pb2.BatchAnswer) -> None:
        """Takes a replica's answer to a batch.

        Args:
            attachment: The replica.
            batch_id: The batch's id.
            answer: What it computed.

        Raises:
            InvalidArgumentError: If the replica does not hold such a batch.
        """
        now = self.clock()
        batch = attachment.take_back(batch_id, now)
        try:
            try:
                batch.answer(answer, now)
            except SteersmanError as error:
                self._fail_batch(batch, error, now)
            else:
                self.statistics.count_batch(batch.version.number, batch.size, answer.compute_microseconds / 1e6)
                self._traffic.succeeded(batch.version.number)
        except Exception:  # noqa: BLE001 - whatever it is, it concerns no one else
            self._fail_unexpectedly(batch, now)
        self._gathering.notify()

    def failed(self, attachment: Attachment, batch_id: int, error: SteersmanError) -> None:
        """Takes a replica's word that it has no answer to a batch.

        Args:
            attachment: The replica.
            batch_id: The batch's id.
            error: Why.

        Raises:
            InvalidArgumentError: If the replica does not hold such a batch.
        """
        now = self.clock()
        batch = attachment.take_back(batch_id, now)
        try:
            if isinstance(error, UnavailableError):
                # The replica cannot compute this version any more; others can, or nobody.
                if batch.version.number in attachment.versions:
                    self._try_again(batch.segments, error, now)
                else:
                    self._lanes.push_front(batch.segments)
                self._migration.leave_unloaded_versions(now)
            elif isinstance(error, DeadlineExceededError):
                for segment in batch.segments:
                    segment.request.fail(error, now)
            else:
                self._fail_batch(batch, error, now)
        except Exception:  # noqa: BLE001 - whatever it is, it concerns no one else
            self._fail_unexpectedly(batch, now)
        self._gathering.notify()

    def expire(self) -> None:
        """Fails what waits beyond its deadline. Needed only while no replica is free: dispatching looks by itself."""
        now = self.clock()
        for queue in self._lanes.queues():
            try:
                queue.expire(now)
            except Exception:  # noqa: BLE001 - whatever it is, it concerns no one else
                _log.exception("what waits for policy %s could not be looked through", self.policy)
                queue.fail_all(InternalError("expected to keep the request waiting, but the gateway failed at it"), now)

    def fail_all(self, error: SteersmanError) -> None:
        """Fails everything that waits."""
        now = self.clock()
        for queue in self._lanes.queues():
            queue.fail_all(error, now)

    def _fail_batch(self, batch: Batch, error: SteersmanError, now: float) -> None:
        """Fails the request that a batch failed for: the only one in it, or else the one that fails alone, too."""
        segments = self._fallback.without(batch, str(error), now)
        if len(segments) == 1:
            segments[0].request.fail(error, now)
        else:
            self._batching.isolate(segments)

    def _fail_unexpectedly(self, batch: Batch, now: float) -> None:
        """Fails what waits for a batch whose result the gateway itself could not take; called in an error's handler."""
        _log.exception("what became of a batch for policy %s could not be taken in", self.policy)
        for segment in batch.segments:
            segment.request.fail(InternalError("expected to take the answer, but the gateway failed at it"), now)

    def _try_again(self, segments: Iterable[Segment], error: SteersmanError, now: float) -> None:
        """Has segments computed again, first in line, unless that was tried often enough; then they fail."""
        segments = list(segments)
        for request in {segment.request: None for segment in segments}:
            request.attempts += 1
            # Whoever was there twice computes alone from now on, so that one bad request cannot fail the others.
            request.isolated = request.isolated or request.attempts > 1
            if request.attempts >= MAX_ATTEMPTS:
                request.fail(error, now)
        self._lanes.push_front(segments)

    def _is_wanted(self) -> bool:
        """Tells whether any replica would take a batch."""
        return self._attachments.want_work(self._lanes.waiting.observations)

    def _is_complete(self) -> bool:
        """Tells whether a single observation is all that this policy has to do, or what waits fills a batch."""
        waiting = self._lanes.waiting.observations
        return self._attachments.are_idle if waiting <= 1 else self._attachments.fill_a_batch(waiting)

    def _dispatch(self) -> None:
        self._batching.give_batches(self.clock())

    def _dispatch_later(self, seconds: float) -> None:
        if not self._delay_is_running:
            self._delay_is_running = True
            self._loop.call_later(seconds, self._end_delay)

    def _end_delay(self) -> None:
        self._delay_is_running = False
        self._gathering.notify()
