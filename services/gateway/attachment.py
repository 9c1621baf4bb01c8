"""One replica, as long as its stream lives: what it can do, and the batches that it holds."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from services.gateway.batch import Batch
from services.gateway.requests import Segment
from services.gateway.versions import Version, read_version
from steersman.errors import InvalidArgumentError
from steersman.v1 import replica_pb2

_batch_ids = count(1)


class Attachment:
    """A replica that is attached.

    Args:
        announce: The replica's first message.
        send: Takes a message for the replica; must not block.

    Attributes:
        policy: The policy that it serves.
        replica_id: Its name.
        versions: The versions that it has loaded, by number.
        max_batch_size: The most observations that it takes in one batch.
        leaving: Whether it takes no more batches.
        last_given: When it was given its last batch, counted in batches of all replicas.

    Raises:
        InvalidArgumentError: If the announcement makes no sense.
    """

    def __init__(self, announce: replica_pb2.Announce, send: Callable[[replica_pb2.AttachResponse], None]) -> None:
        self.policy = announce.policy
        self.replica_id = announce.replica_id
        self.leaving = False
        self._send = send
        self._batches: dict[int, Batch] = {}
        self.last_given = 0
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
        self.max_batch_size = announce.max_batch_size
        self._max_in_flight = announce.max_batches_in_flight

    @property
    def in_flight(self) -> int:
        """Batches that it holds."""
        return len(self._batches)

    def can_take(self, version: int) -> bool:
        """Tells whether it would take a batch for this version now."""
        return not self.leaving and len(self._batches) < self._max_in_flight and version in self.versions

    def give(self, version: Version, segments: list[Segment], queue_depth: int) -> Batch:
        """Hands it a batch.

        Args:
            version: The version to compute with; `can_take` must allow it.
            segments: The observations.
            queue_depth: Observations that still wait.
        """
        self.last_given = next(_batch_ids)
        batch = Batch(self.last_given, version, segments, sum(segment.size for segment in segments))
        self._batches[batch.id] = batch
        self._send(batch.message(queue_depth))
        return batch

    def take_back(self, batch_id: int) -> Batch:
        """Takes a batch off it, since it has answered.

        Raises:
            InvalidArgumentError: If it does not hold such a batch.
        """
        batch = self._batches.pop(batch_id, None)
        if batch is None:
            raise InvalidArgumentError(f"expected a result for a batch in flight, got one for batch {batch_id}")
        return batch

    def take_back_all(self) -> list[Batch]:
        """Takes all batches off it, since it is lost; oldest first."""
        batches = list(self._batches.values())
        self._batches.clear()
        return batches
