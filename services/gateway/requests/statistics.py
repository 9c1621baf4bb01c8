"""Counts of one policy, since the gateway started."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from services.gateway.requests.version_statistics import VersionStatistics
from steersman.errors import DeadlineExceededError, ResourceExhaustedError, SteersmanError
from steersman.v1 import policy_pb2

if TYPE_CHECKING:
    from services.gateway.requests.batch import Batch


@dataclass(slots=True)
class Statistics:
    """What has happened; see `PolicyStatistics` in the protos. Every request ends in exactly one of the first five."""

    answered: int = 0
    failed: int = 0
    cancelled: int = 0
    expired: int = 0
    shed: int = 0
    batches: int = 0
    batched_observations: int = 0
    requeued_batches: int = 0
    by_version: dict[int, VersionStatistics] = field(default_factory=dict, compare=False, repr=False)

    def version(self, number: int) -> VersionStatistics:
        """Gives the counts of one version."""
        found = self.by_version.get(number)
        if found is None:
            found = self.by_version[number] = VersionStatistics()
        return found

    def count_batch(self, batch: Batch, compute_microseconds: int, now: float) -> None:
        """Counts a batch that was answered, and the requests that this finished.

        Args:
            batch: The batch.
            compute_microseconds: What the replica spent on it.
            now: Time.
        """
        counted = self.version(batch.version.number)
        counted.count_batch(batch.size, compute_microseconds / 1e6)
        counted.count_answers(
            [
                (request.arrived, request.departed, request.compute_microseconds / 1e6)
                for request in [segment.request for segment in batch.segments]
                # Without outputs it waits for other batches, or was given up; copies for a shadow count elsewhere.
                if request.outputs and request.statistics is self
            ],
            now,
        )

    def count_failure(self, error: SteersmanError) -> None:
        """Counts a request that ended with an error."""
        if isinstance(error, DeadlineExceededError):
            self.expired += 1
        elif isinstance(error, ResourceExhaustedError):
            self.shed += 1
        else:
            self.failed += 1

    def message(self, waiting: int) -> policy_pb2.PolicyStatistics:
        """Writes the counts.

        Args:
            waiting: Observations that wait now.
        """
        return policy_pb2.PolicyStatistics(
            answered=self.answered,
            failed=self.failed,
            cancelled=self.cancelled,
            expired=self.expired,
            shed=self.shed,
            batches=self.batches,
            batched_observations=self.batched_observations,
            requeued_batches=self.requeued_batches,
            waiting=waiting,
        )
