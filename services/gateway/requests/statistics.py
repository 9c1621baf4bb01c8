"""Counts of one policy, since the gateway started."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.gateway.requests.version_statistics import VersionStatistics
from steersman.errors import DeadlineExceededError, ResourceExhaustedError, SteersmanError
from steersman.v1 import policy_pb2


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

    def count_batch(self, version: int, size: int, compute_seconds: float) -> None:
        """Counts a batch that was answered.

        Args:
            version: The version that computed it.
            size: Observations in it.
            compute_seconds: What the replica spent on it.
        """
        self.version(version).count_batch(size, compute_seconds)

    def count_answered(self, version: int, arrived: float, departed: float, compute_seconds: float, now: float) -> None:
        """Counts a request that was answered.

        Args:
            version: The version that answered it.
            arrived: When it came, in seconds of `time.monotonic`.
            departed: When its first part went to a replica, likewise.
            compute_seconds: The longest time that a replica spent on a batch with a part of it.
            now: Seconds of `time.monotonic`.
        """
        self.answered += 1
        self.version(version).count_answer(arrived, departed, compute_seconds, now)

    def count_failed(self, version: int, error: SteersmanError, seconds: float) -> None:
        """Counts a request for a version that ended with an error.

        Args:
            version: The version that it was for.
            error: The error.
            seconds: From its receipt to its end.
        """
        self.count_failure(error)
        self.version(version).failed.add(seconds)

    def count_abandoned(self, version: int, seconds: float, *, is_expired: bool) -> None:
        """Counts a request that its caller has given up.

        Args:
            version: The version that it was for.
            seconds: From its receipt to its end.
            is_expired: Whether its deadline has passed; else it was cancelled.
        """
        if is_expired:
            self.expired += 1
        else:
            self.cancelled += 1
        self.version(version).failed.add(seconds)

    def count_failure(self, error: SteersmanError) -> None:
        """Counts an error that a request ended with, whatever version it may have been for."""
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
