"""The heart of the gateway: one policy's queues, its attached replicas, and who gets what.

Invariants, which the property tests hold it to:

- a request is finished exactly once, and answered only with its own actions, in its own order;
- a segment is in one place: in a lane's queue, in one batch of one attachment, or done;
- nothing waits while an idle replica could take it, but for an explicit queue delay.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping

from services.gateway.dispatch.admission import Limits, make_room
from services.gateway.dispatch.attachment import Attachment
from services.gateway.dispatch.gathering import Gathering, Loop
from services.gateway.dispatch.lane import Lane, turn
from services.gateway.dispatch.probation import Probation
from services.gateway.dispatch.request_queue import RequestQueue
from services.gateway.dispatch.routes import Route, Shadow, Split, split
from services.gateway.dispatch.shadow import ShadowStatistics
from services.gateway.requests.batch import Batch
from services.gateway.requests.options import Options
from services.gateway.requests.request import Request, Segment
from services.gateway.requests.statistics import Statistics
from services.gateway.requests.versions import Version
from steersman.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    InternalError,
    NotFoundError,
    SteersmanError,
    UnavailableError,
)

_log = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
"""Replicas that a request may be lost with before it is taken for the cause and fails."""


class Dispatcher:
    """Batches the requests for one policy and spreads them over its replicas.

    Args:
        policy: The policy's name, for messages.
        limits: How much may wait.
        loop: The event loop that everything runs in.
        clock: Gives the time in seconds. Not the event loop's, which may be as coarse as a millisecond.
        statistics: Where to count; None for counts of its own.

    Attributes:
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
        self.statistics = statistics or Statistics()
        self.shadow_statistics = ShadowStatistics()
        self._limits = limits
        self._loop = loop
        self._clock = clock
        self._attachments: list[Attachment] = []
        self._lanes: dict[tuple[int, Options], Lane] = {}
        self._versions: dict[int, Version] = {}
        self._has_memory = False
        self._route: Route | None = None
        self._route_before: Route | None = None
        self._split: Split | None = None
        self._default_version: Version | None = None
        self._revision = 0
        self._probation = Probation()
        self._gathering = Gathering(loop, self._is_wanted, self._is_alone, self._dispatch)
        self._delay_is_running = False

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
        """The loaded version that most requests go to which name none; the newest if there is no route."""
        return self._default_version

    @property
    def shadow(self) -> Shadow | None:
        """The version that gets copies of requests, if one does."""
        return self._route.shadow if self._route else None

    @property
    def serving(self) -> frozenset[int]:
        """The versions that requests go to now which name none."""
        return frozenset(self._split.versions) if self._split else frozenset()

    @property
    def is_split(self) -> bool:
        """Whether there is more than one version that requests may go to which name none."""
        return self._split is not None and len(self._split.versions) > 1

    @property
    def has_memory(self) -> bool:
        """Whether a loaded version has memory."""
        return self._has_memory

    def pick(self, point: float) -> Version:
        """Picks the version for a request that names none, among those that are loaded; there must be one.

        Args:
            point: A point in [0, 1), drawn at random or given by `routes.point_of`.
        """
        assert self._split is not None  # noqa: S101 - the caller has looked for a default version
        return self._versions[self._split.pick(point)]

    @property
    def given_up(self) -> Mapping[int, str]:
        """Why versions get nothing that another one can answer as well: they failed before they ever answered."""
        return self._probation.given_up

    def set_route(self, route: Route | None, before: Route | None, revision: int = 0) -> None:
        """Splits traffic from now on; what waits already goes where it was going.

        Args:
            route: How.
            before: The route before, which holds while nothing of this one is loaded.
            revision: Of what is wanted. Whenever it changes, versions that were given up get another chance.
        """
        if revision != self._revision:
            self._revision = revision
            self._probation.pardon()
        if (route.shadow if route else None) != self.shadow:
            self.shadow_statistics = ShadowStatistics()
        self._route, self._route_before = route, before
        self._split_anew()

    def later(self, callback: Callable[[], None]) -> None:
        """Runs a function after what is ready now."""
        self._loop.call_soon(callback)

    @property
    def waiting(self) -> int:
        """Observations that wait for a replica."""
        return sum([lane.queue.waiting for lane in self._lanes.values()])

    def submit(self, request: Request) -> None:
        """Takes a request; it will be dispatched together with whatever else is ready now.

        Raises:
            ResourceExhaustedError: If the queue is full.
        """
        segment = Segment(request, 0, request.size)
        make_room(self._limits, [lane.queue for lane in self._lanes.values()], segment)
        self._lane(request).queue.push(segment)
        self._gathering.tell()

    def attach(self, attachment: Attachment) -> None:
        """Takes a replica."""
        self._attachments.append(attachment)
        self.replica_changed()

    def detach(self, attachment: Attachment) -> None:
        """Lets a replica go; what it holds goes to another one, first in line."""
        self._attachments.remove(attachment)
        lost = attachment.take_back_all()
        self.statistics.requeued_batches += len(lost)
        segments = []
        for batch in lost:
            if self._is_on_trial(batch.version.number):
                reason = (
                    f"the replica that computed its first batch was lost; version {batch.version.number} is to blame"
                )
                segments += self._spare(batch, reason, lost=True)
            else:
                segments += batch.segments
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
        loaded = {
            number: version
            for attachment in self._attachments
            if not attachment.leaving
            for number, version in attachment.versions.items()
        }
        self._versions = {number: loaded[number] for number in sorted(loaded)}
        self._has_memory = any(version.state for version in loaded.values())
        self._probation.forget(self._versions)
        self._split_anew()
        if self._attachments:
            self._rehome()
        self._gathering.tell()

    def _split_anew(self) -> None:
        self._split = split(self._route, self._route_before, self._probation.usable(self._versions))
        self._default_version = self._versions[self._split.main_version] if self._split else None

    def answer(self, attachment: Attachment, batch_id: int, outcome: Callable[[Batch], int]) -> None:
        """Takes a replica's result for a batch.

        Args:
            attachment: The replica.
            batch_id: The batch's id.
            outcome: Answers the batch and gives the microseconds of its computation, or raises why there is no answer.

        Raises:
            InvalidArgumentError: If the replica does not hold such a batch.
        """
        batch = attachment.take_back(batch_id, self._clock())
        try:
            self.statistics.count_batch(batch, outcome(batch), self._clock())
            if not self._probation.is_proven(batch.version.number):
                self._probation.succeeded(batch.version.number)
        except UnavailableError:
            # The replica cannot compute this version any more; others can, or nobody.
            self._return(batch.segments)
            self._rehome()
        except DeadlineExceededError as error:
            for segment in batch.segments:
                segment.request.fail(error)
        except SteersmanError as error:
            segments = batch.segments
            if self._is_on_trial(batch.version.number):
                segments = self._spare(batch, str(error))
            if len(segments) == 1:
                segments[0].request.fail(error)
            else:
                # One of them is the cause: alone, only that one fails.
                for segment in segments:
                    segment.request.isolated = True
                self._return(segments)
        self._gathering.tell()

    def expire(self) -> None:
        """Fails what waits beyond its deadline. Needed only while no replica is free: dispatching looks by itself."""
        now = self._clock()
        for lane in self._lanes.values():
            lane.queue.expire(now)

    def fail_all(self, error: SteersmanError) -> None:
        """Fails everything that waits."""
        for lane in self._lanes.values():
            for segment in lane.queue.drain():
                segment.request.fail(error)

    def _return(self, segments: Iterable[Segment]) -> None:
        """Puts segments back, first in line."""
        for segment in reversed(list(segments)):
            self._lane(segment.request).queue.push_front([segment])

    def _lane(self, request: Request) -> Lane:
        key = (request.version.number, request.options)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(*key)
        return lane

    def _is_on_trial(self, version: int) -> bool:
        """Tells whether a version has never answered, and there is another one to fall back on."""
        return not self._probation.is_proven(version) and any(
            other != version and other not in self._probation.given_up for other in self._versions
        )

    def _spare(self, batch: Batch, reason: str, *, lost: bool = False) -> list[Segment]:
        """Takes note that a version on trial has failed, and lets another one answer what it can answer as well.

        Returns:
            What has to stay with the version.
        """
        version = batch.version.number
        is_given_up = self._probation.failed(version, reason, lost=lost)
        others = [other for other in self._probation.usable(self._versions) if other != version]
        found = split(self._route, self._route_before, others)
        assert found is not None  # noqa: S101 - there is another one, or it would not be on trial
        successor = self._versions[found.main_version]
        if is_given_up:
            _log.warning("policy %s gives version %d up: %s", self.policy, version, reason)
            self._split_anew()
            for lane in [lane for lane in self._lanes.values() if lane.version == version]:
                for segment in lane.queue.drain():
                    if not self._follow(segment, successor):
                        lane.queue.push(segment)
        return [segment for segment in batch.segments if not self._follow(segment, successor)]

    def _follow(self, segment: Segment, successor: Version) -> bool:
        """Queues a request that any version may answer for another one, if that takes and gives the same."""
        request = segment.request
        if request.finished:
            return True
        if request.pinned or request.version.state or not successor.takes_the_same_as(request.version):
            return False
        if segment.size != request.size:
            # The rest of it is elsewhere; whoever asks again gets all of it from one version.
            request.fail(UnavailableError(f"policy {self.policy!r} moved on to version {successor.number} meanwhile"))
        else:
            request.version = successor
            self._lane(request).queue.push(segment)
        return True

    def _rehome(self) -> None:
        """Moves what waits for a version that no replica has any more to the version that took its place."""
        for key in [key for key in self._lanes if key[0] not in self._versions]:
            for segment in self._lanes.pop(key).queue.drain():
                self._move(segment)

    def _move(self, segment: Segment) -> None:
        request = segment.request
        successor = self.default_version
        if request.finished:
            return
        if successor is None:
            # Replicas are there but have nothing loaded, so one will.
            self._lane(request).queue.push(segment)
        elif request.version.state:
            request.fail(
                FailedPreconditionError(
                    f"expected version {request.version.number} of policy {self.policy!r}, which this episode began "
                    "with, but its last replica has unloaded it; begin a new episode"
                )
            )
        elif request.pinned:
            request.fail(
                NotFoundError(
                    f"expected version {request.version.number} of policy {self.policy!r}, "
                    "but its last replica has unloaded it"
                )
            )
        elif not self._follow(segment, successor):
            request.fail(
                UnavailableError(
                    f"policy {self.policy!r} moved on meanwhile to version {successor.number}, which takes other input"
                )
            )

    def _is_wanted(self) -> bool:
        """Tells whether any replica would take a batch."""
        waiting = self.waiting
        return any(attachment.wants_work(waiting) for attachment in self._attachments)

    def _is_alone(self) -> bool:
        """Tells whether a single request is all that this policy has to do."""
        return self.waiting <= 1 and not any(attachment.in_flight for attachment in self._attachments)

    def _dispatch(self) -> None:
        """Gives what waits to the replicas that can take it: the lane first whose turn it is, to the idlest replica."""
        now = self._clock()
        lanes = [lane for lane in self._lanes.values() if lane.queue.waiting]
        if len(lanes) > 1:
            lanes.sort(key=turn)
        kept_free: set[int] = set()
        for lane in lanes:
            self._dispatch_lane(lane, now, kept_free)
            if lane.queue.head_is_isolated:
                # It waits for a replica that holds nothing, which there would never be if other lanes went on.
                kept_free.add(lane.version)

    def _dispatch_lane(self, lane: Lane, now: float, kept_free: set[int]) -> None:
        queue = lane.queue
        while waiting := queue.waiting:
            if self._is_on_trial(lane.version) and any(entry.holds(lane.version) for entry in self._attachments):
                return  # its first batch tells
            isolated = queue.head_is_isolated
            candidates = [
                attachment
                for attachment in self._attachments
                if attachment.can_take(lane.version, waiting, isolated)
                and (not kept_free or kept_free.isdisjoint(attachment.versions))
            ]
            if not candidates:
                return
            idlest = min(candidates, key=_busyness)
            if idlest.max_queue_delay and self._waits_for_company(queue, idlest, now):
                return
            # An even share for each replica that is as idle, so that none takes everything.
            equals = sum([attachment.in_flight == idlest.in_flight for attachment in candidates])
            segments = queue.take(idlest.max_batch_size, -(-waiting // equals), now)
            if segments and segments[0].request.isolated and idlest.in_flight:
                # What stood before it was given up meanwhile, so that only now it is known to be next.
                queue.push_front(segments)
            elif segments:
                self._give(idlest, lane, segments, now)

    def _waits_for_company(self, queue: RequestQueue, attachment: Attachment, now: float) -> bool:
        """Tells whether a batch is better sent later; then it is looked at again when the delay has passed."""
        head = queue.head
        if head is None or queue.waiting >= attachment.max_batch_size:
            return False
        left = head.request.arrived + attachment.max_queue_delay - now
        # The event loop's timers may end a little early.
        if left <= 1e-3:
            return False
        if not self._delay_is_running:
            self._delay_is_running = True
            self._loop.call_later(left, self._end_delay)
        return True

    def _end_delay(self) -> None:
        self._delay_is_running = False
        self._gathering.tell()

    def _give(self, attachment: Attachment, lane: Lane, segments: list[Segment], now: float) -> None:
        for segment in segments:
            segment.request.departed = segment.request.departed or now
        self.statistics.batches += 1
        self.statistics.batched_observations += sum([segment.size for segment in segments])
        attachment.give(self._versions[lane.version], lane.options, segments, now, self.waiting)


def _busyness(attachment: Attachment) -> tuple[int, int]:
    """Orders replicas by the batches they hold, then by how lately they were given one."""
    return attachment.in_flight, attachment.last_given
