"""How much a replica has to do: what it reports for autoscaling."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from services.policy.batch_cost import BatchCost

_HALF_LIFE_SECONDS = 0.25
"""What waits at a gateway is known from its latest batch. A gateway with a free replica lets nothing wait, so once the
batch is answered and no other comes, the figures fade so fast."""

_SHORTEST_REPORT_SECONDS = 0.05
"""A report over less time than this would be noise; the one before is given again."""


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What a replica had to do since its last report, and what waits for it.

    Attributes:
        busy_share: Share of the time in which it held at least one batch that it had not answered, from 0 to 1.
        load: The share of the time that the same observations would have taken in batches of a good size; at most
            `busy_share`. The sum over all replicas is how many are needed if none ever idles.
        observations_per_second: Observations that it answered.
        queue_depth: Observations that wait at the gateways, for any replica.
        backlog_seconds: What those would take one replica, in batches of a good size.
        queue_delay_seconds: How long the first observation of a batch had waited, at the gateway where that was worst.
        batch_seconds: What a batch takes.
        idle_seconds: Time since it last held a batch, or since it started.
    """

    busy_share: float
    load: float
    observations_per_second: float
    queue_depth: float
    backlog_seconds: float
    queue_delay_seconds: float
    batch_seconds: float
    idle_seconds: float


@dataclass(slots=True)
class _Queue:
    """What waits at one gateway, as told with its latest batch.

    Attributes:
        depth: Observations.
        delay: Seconds.
        answered: When that batch was answered; None while it is not.
    """

    depth: int
    delay: float
    answered: float | None = None

    def freshness(self, now: float) -> float:
        """Tells how much of the figures still counts, from 0 to 1."""
        return 1.0 if self.answered is None else 0.5 ** ((now - self.answered) / _HALF_LIFE_SECONDS)


class LoadMeter:
    """Measures what a replica has to do.

    Args:
        max_batch_size: The most observations in a batch.
        clock: Gives the time in seconds.

    Example:
        >>> meter = LoadMeter(max_batch_size=256)
        >>> started = meter.begin("127.0.0.1:50061", queue_depth=12, queue_delay=0.003)
        >>> meter.end("127.0.0.1:50061", started, size=32)
        >>> meter.report().load
    """

    def __init__(self, max_batch_size: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._cost = BatchCost(max_batch_size)
        self._queues: dict[str, _Queue] = {}
        self._held = 0
        self._busy_since = self._idle_since = self._reported = clock()
        self._busy = 0.0
        self._batches = self._observations = 0
        self._full_share = 1.0
        self._report = LoadReport(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)

    def begin(self, gateway: str, queue_depth: int, queue_delay: float) -> float:
        """Takes note that the replica begins with a batch.

        Args:
            gateway: Where it comes from.
            queue_depth: Observations that still wait there.
            queue_delay: Seconds that the first observation of the batch had waited there.

        Returns:
            The time, for `end`.
        """
        now = self._clock()
        self._queues[gateway] = _Queue(queue_depth, queue_delay)
        if not self._held:
            self._busy_since = now
        self._held += 1
        return now

    def end(self, gateway: str, began: float, size: int) -> None:
        """Takes note that the replica is done with a batch, however that went.

        Args:
            gateway: Where it came from.
            began: What `begin` gave.
            size: Observations that were computed; 0 if none were.
        """
        now = self._clock()
        self._queues[gateway].answered = now
        self._held -= 1
        if not self._held:
            self._busy += now - self._busy_since
            self._idle_since = now
        if size:
            self._batches += 1
            self._observations += size
            self._cost.add(size, now - began)

    def report(self) -> LoadReport:
        """Gives what was measured since the last report."""
        now = self._clock()
        elapsed = now - self._reported
        if elapsed < _SHORTEST_REPORT_SECONDS:
            return self._report
        if self._held:
            self._busy += now - self._busy_since
            self._busy_since = now
        if self._batches:
            self._cost.estimate()
            self._full_share = self._cost.full_share(self._batches, self._observations)
        busy_share = min(1.0, self._busy / elapsed)
        queue_depth = sum(queue.depth * queue.freshness(now) for queue in self._queues.values())
        self._report = LoadReport(
            busy_share=busy_share,
            load=busy_share * self._full_share,
            observations_per_second=self._observations / elapsed,
            queue_depth=queue_depth,
            backlog_seconds=queue_depth * self._cost.full_seconds_per_observation,
            queue_delay_seconds=max(
                (queue.delay * queue.freshness(now) for queue in self._queues.values()), default=0.0
            ),
            batch_seconds=self._cost.batch_seconds,
            idle_seconds=0.0 if self._held else now - self._idle_since,
        )
        self._reported = now
        self._busy = 0.0
        self._batches = self._observations = 0
        return self._report
