"""Counts and durations of one version of a policy, since the gateway started."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.gateway.requests.latencies import BUCKETS, bucket_of


@dataclass(slots=True)
class Duration:
    """What happened how often, and how long it took in all.

    Attributes:
        count: How often.
        seconds: How long.
    """

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Counts one more."""
        self.count += 1
        self.seconds += seconds


@dataclass(slots=True)
class VersionStatistics:
    """What has happened to one version.

    Attributes:
        answered: Requests answered, from their receipt to their answer.
        failed: Requests that were not, from their receipt to their end.
        queued: For requests answered the time from their receipt to their departure for a replica.
        computed: For requests answered the time that a replica spent on the batch that they were in; the longest of
            them, if they were in several.
        batches: Batches computed and what replicas spent on them, by the number of observations.
        latencies: Requests answered by the time from their receipt to their answer, in the buckets of `latencies`.
        last_answer: When the last answer came, in seconds of `time.monotonic`; 0 if there was none.
    """

    answered: Duration = field(default_factory=Duration)
    failed: Duration = field(default_factory=Duration)
    queued: Duration = field(default_factory=Duration)
    computed: Duration = field(default_factory=Duration)
    batches: dict[int, Duration] = field(default_factory=dict)
    latencies: list[int] = field(default_factory=lambda: [0] * BUCKETS)
    last_answer: float = 0.0

    def count_batch(self, size: int, compute_seconds: float) -> None:
        """Counts a batch that a replica has computed.

        Args:
            size: Observations in it.
            compute_seconds: What the replica spent on it.
        """
        found = self.batches.get(size)
        if found is None:
            found = self.batches[size] = Duration()
        found.add(compute_seconds)

    def count_answer(self, arrived: float, departed: float, compute_seconds: float, now: float) -> None:
        """Counts a request that was answered.

        Args:
            arrived: When it came, in seconds of `time.monotonic`.
            departed: When its first part went to a replica, likewise.
            compute_seconds: The longest time that a replica spent on a batch with a part of it.
            now: Seconds of `time.monotonic`.
        """
        seconds = now - arrived
        self.answered.add(seconds)
        self.latencies[bucket_of(seconds)] += 1
        self.queued.add(departed - arrived)
        self.computed.add(compute_seconds)
        self.last_answer = now
