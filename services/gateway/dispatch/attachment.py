"""One replica, as long as its connection lives: what it can do, and the batches that it holds."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import count

from services.gateway.requests.batch import Batch
from services.gateway.requests.options import Options
from services.gateway.requests.request import Segment
from services.gateway.requests.versions import Version, read_version
from steersman.errors import InvalidArgumentError
from steersman.v1 import replica_pb2

_batch_ids = count(1)

_LEAST_PATIENCE_SECONDS = 2.0
_PATIENCE = 20
"""How many times longer than its slowest answer lately a replica may take."""

_FORGETTING = 0.99
"""How much of the slowest answer is remembered after each one."""


class Attachment:
    """A replica that is attached.

    Args:
        announce: The replica's first message.
        send: Takes a message for the replica; must not block.

    Attributes:
        policy: The policy that it serves.
        replica_id: Its name.
        versions: The versions that it has loaded, by number.
        failed_versions: Why it could not load versions, by number.
        max_batch_size: The most observations that it takes in one batch.
        max_queue_delay: Seconds that an observation may wait for company while the batch is not full.
        leaving: Whether it takes no more batches.
        clogged: Whether it has yet to read what it was sent before it is given more.
        last_given: When it was given its last batch, counted in batches of all replicas.

    Raises:
        InvalidArgumentError: If the announcement makes no sense.
    """

    def __init__(self, announce: replica_pb2.Announce, send: Callable[[replica_pb2.AttachResponse], None]) -> None:
        self.policy = announce.policy
        self.replica_id = announce.replica_id
        self.leaving = False
        self.clogged = False
        self._send = send
        self._batches: dict[int, Batch] = {}
        self.last_given = 0
        self._slowest = 0.0
        self.announce(announce)

    def announce(self, announce: replica_pb2.Announce) -> None:
        """Takes in what the replica can do from now on.

        Raises:
            InvalidArgumentError: If the announcement makes no sense or is another replica's.
        """
        if not announce.policy or (announce.policy, announce.replica_id) != (self.policy, self.replica_id):
            raise InvalidArgumentError(
                f"expected replica {self.replica_id!r} of policy {self.policy!r} to announce itself, "
                f"got {announce.replica_id!r} of {announce.policy!r}"
            )
        if announce.max_batches_in_flight < 1 or announce.max_batch_size < 1:
            raise InvalidArgumentError(
                "expected max_batches_in_flight and max_batch_size of at least 1, "
                f"got {announce.max_batches_in_flight} and {announce.max_batch_size}"
            )
        self.versions: dict[int, Version] = {loaded.version: read_version(loaded) for loaded in announce.versions}
        self.failed_versions = {failed.version: failed.reason for failed in announce.failed_versions}
        self.max_batch_size = announce.max_batch_size
        self.max_queue_delay = announce.max_queue_delay_microseconds / 1e6
        self._max_in_flight = announce.max_batches_in_flight

    @property
    def in_flight(self) -> int:
        """Batches that it holds."""
        return len(self._batches)

    @property
    def oldest_given(self) -> float:
        """Time at which it got the batch that it holds longest; infinite if it holds none."""
        return min((batch.given for batch in self._batches.values()), default=math.inf)

    def holds(self, version: int) -> bool:
        """Tells whether it holds a batch of a version."""
        return any(batch.version.number == version for batch in self._batches.values())

    def is_overdue(self, now: float, longest: float) -> bool:
        """Tells whether it owes an answer for so long that it must hang.

        That is, much longer than it has ever needed lately; before its first answer, as long as it may take at most.

        Args:
            now: Time.
            longest: Seconds that an answer may take at most.
        """
        patience = min(longest, max(_LEAST_PATIENCE_SECONDS, _PATIENCE * self._slowest)) if self._slowest else longest
        return now - self.oldest_given > patience

    def wants_work(self, waiting: int) -> bool:
        """Tells whether a batch would be worth its trip now, whatever it is for.

        A replica that computes gets its next batch ahead of time, so that the wire and the compute overlap, but only
        one that is at least as large as what it has in hand. Otherwise batches would decay under load to one or two
        observations, each at the price of a whole batch.

        Args:
            waiting: Observations that could be in the batch.
        """
        if self.leaving or self.clogged or len(self._batches) >= self._max_in_flight:
            return False
        in_hand = sum([batch.size for batch in self._batches.values()])
        return waiting >= min(in_hand, self.max_batch_size)

    def can_take(self, version: int, waiting: int, isolated: bool = False) -> bool:
        """Tells whether it should be given a batch now.

        Args:
            version: The version to compute with.
            waiting: Observations that could be in the batch.
            isolated: Whether the batch is to be the only one that the replica holds.
        """
        if version not in self.versions or not self.wants_work(waiting):
            return False
        return not (self._batches and (isolated or any(batch.isolated for batch in self._batches.values())))

    def give(self, version: Version, options: Options, segments: list[Segment], now: float, queue_depth: int) -> None:
        """Hands it a batch.

        Args:
            version: The version to compute with; `can_take` must allow it.
            options: The options that all segments have.
            segments: The observations.
            now: Time.
            queue_depth: Observations that still wait.
        """
        self.last_given = next(_batch_ids)
        size = sum([segment.size for segment in segments])
        batch = Batch(self.last_given, version, options, segments, size, now)
        self._batches[batch.id] = batch
        self._send(batch.message(queue_depth))

    def take_back(self, batch_id: int, now: float) -> Batch:
        """Takes a batch off it, since it has answered.

        Args:
            batch_id: The batch's id.
            now: Time.

        Raises:
            InvalidArgumentError: If it does not hold such a batch.
        """
        batch = self._batches.pop(batch_id, None)
        if batch is None:
            raise InvalidArgumentError(f"expected a result for a batch in flight, got one for batch {batch_id}")
        self._slowest = max(now - batch.given, _FORGETTING * self._slowest)
        return batch

    def take_back_all(self) -> list[Batch]:
        """Takes all batches off it, since it is lost; oldest first."""
        batches = list(self._batches.values())
        self._batches.clear()
        return batches
