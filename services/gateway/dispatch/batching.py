"""Batching: makes batches of what waits, and gives each to the replica that is least busy."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from services.gateway.dispatch.attachment import Attachment
from services.gateway.dispatch.attachments import Attachments
from services.gateway.dispatch.lane import Lane, Lanes, precedence
from services.gateway.dispatch.traffic import Traffic
from services.gateway.requests.batch import Batch
from services.gateway.requests.message_sizes import answer_size, batch_size
from services.gateway.requests.request import Segment
from services.gateway.requests.statistics import Statistics
from steersman.errors import FailedPreconditionError, InternalError

_log = logging.getLogger(__name__)


class Batching:
    """Gives what waits for one policy to its replicas.

    Args:
        policy: The policy's name, for messages.
        lanes: Where its requests wait.
        traffic: Its versions.
        attachments: Its replicas.
        statistics: Where batches are counted.
        call_later: Has `give_batches` called again after so many seconds.
    """

    def __init__(
        self,
        policy: str,
        lanes: Lanes,
        traffic: Traffic,
        attachments: Attachments,
        statistics: Statistics,
        call_later: Callable[[float], None],
    ) -> None:
        self._policy = policy
        self._lanes = lanes
        self._traffic = traffic
        self._attachments = attachments
        self._statistics = statistics
        self._call_later = call_later

    def give_batches(self, now: float) -> None:
        """Gives batches to the replicas that can take any; the lane that goes first to the idlest replica.

        Args:
            now: Seconds of `time.monotonic`.
        """
        lanes = [lane for lane in self._lanes if lane.queue.waiting]
        if len(lanes) > 1:
            lanes.sort(key=precedence)
        kept_free: set[int] = set()
        for lane in lanes:
            try:
                self._give_lane(lane, kept_free, now)
            except Exception:  # noqa: BLE001 - whatever it is, it concerns no one else
                _log.exception("requests for version %d of policy %s cannot be batched", lane.version, self._policy)
                error = InternalError("expected to send the request to a replica, but the gateway failed at it")
                lane.queue.fail_all(error, now)
            if lane.queue.head_is_isolated:
                # It waits for a replica that holds nothing, which there would never be if other lanes went on.
                kept_free.add(lane.version)

    def isolate(self, segments: Sequence[Segment]) -> None:
        """Has each segment computed alone, first in line, so that only what causes an error fails."""
        for segment in segments:
            segment.request.isolated = True
        self._lanes.push_front(segments)

    def _give_lane(self, lane: Lane, kept_free: set[int], now: float) -> None:
        queue = lane.queue
        holders = self._attachments.holders(lane.version)
        while waiting := queue.waiting:
            if self._traffic.is_on_probation(lane.version) and self._attachments.are_computing(lane.version):
                return  # its first batch tells
            isolated = queue.head_is_isolated
            candidates = [
                attachment
                for attachment in holders
                if attachment.can_take(lane.version, lane.options, waiting, isolated)
                and (not kept_free or kept_free.isdisjoint(attachment.versions))
            ]
            if not candidates:
                self._fail_what_never_fits(lane, holders, now)
                return
            idlest = min(candidates, key=_busyness)
            most = idlest.most_observations(lane.version, lane.options)
            if idlest.max_queue_delay and self._waits_for_company(lane, most, idlest.max_queue_delay, now):
                return
            # An even share for each replica that is as idle, so that none takes everything.
            equals = sum([attachment.in_flight == idlest.in_flight for attachment in candidates])
            segments = queue.take(most, -(-waiting // equals), now)
            if not segments:
                return  # all that waited has expired
            if segments[0].request.isolated and idlest.in_flight:
                # What stood before it has expired, so that only now it is known to be next.
                queue.push_front(segments)
            else:
                self._give(idlest, lane, segments, now)

    def _waits_for_company(self, lane: Lane, most: int, max_queue_delay: float, now: float) -> bool:
        """Tells whether a batch is better sent later; then it is looked at again when the delay has passed."""
        head = lane.queue.head
        if head is None or lane.queue.waiting >= most:
            return False
        left = head.request.arrived + max_queue_delay - now
        # The event loop's timers may end a little early.
        if left <= 1e-3:
            return False
        self._call_later(left)
        return True

    def _fail_what_never_fits(self, lane: Lane, holders: Sequence[Attachment], now: float) -> None:
        """Fails what waits for a version of which not even one observation fits into a message."""
        if not holders or any(holder.most_observations(lane.version, lane.options) for holder in holders):
            return
        version = self._traffic.versions[lane.version]
        batch, answer = batch_size(version, lane.options), answer_size(version, lane.options)
        error = FailedPreconditionError(
            f"expected one observation of version {version.number} of policy {self._policy!r} to fit into a message "
            f"between gateway and replica, got up to {batch.once + batch.each} bytes where the replica takes "
            f"{max(holder.max_message_bytes for holder in holders)}, and an answer of up to "
            f"{answer.once + answer.each} bytes where the gateway takes "
            f"{max(holder.max_answer_bytes for holder in holders)}; raise max_message_bytes"
        )
        lane.queue.fail_all(error, now)

    def _give(self, attachment: Attachment, lane: Lane, segments: list[Segment], now: float) -> None:
        """Sends a batch. If that fails, the requests that are to blame fail; the others stay first in line."""
        size = sum([segment.size for segment in segments])
        batch = Batch(self._traffic.versions[lane.version], lane.options, segments, size, now)
        try:
            attachment.give(batch, self._lanes.waiting.observations)
        except ConnectionError:
            # It is about to be detached; nobody is to blame for what never left.
            lane.queue.push_front(segments)
            return
        except Exception:  # noqa: BLE001 - whatever it is, it concerns no one else
            _log.exception("a batch for version %d of policy %s could not be sent", lane.version, self._policy)
            self._blame_requests(lane, batch, now)
            return
        for segment in segments:
            segment.request.departed = segment.request.departed or now
        self._statistics.batches += 1
        self._statistics.batched_observations += size

    def _blame_requests(self, lane: Lane, batch: Batch, now: float) -> None:
        """Fails those requests of a batch that it could not be sent for."""
        unwritable = batch.segments if len(batch.segments) == 1 else batch.unwritable()
        error = InternalError("expected to send the request to a replica, but the gateway failed at it")
        for segment in unwritable:
            segment.request.fail(error, now)
        if unwritable:
            lane.queue.push_front(batch.segments)
        else:
            self.isolate(batch.segments)


def _busyness(attachment: Attachment) -> tuple[int, int]:
    """Orders replicas by the batches they hold, then by how lately they were given one."""
    return attachment.in_flight, attachment.last_given
