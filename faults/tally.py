"""What clients got, counted while it happens."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Counts:
    """What the clients of one protocol got; milliseconds are rounded to tenths.

    Attributes:
        sent: Requests that were made.
        answered: Requests that got an action.
        failed: Requests that did not.
        failures: Why requests failed, and how often, the most frequent first.
        slowest_ms: The longest that an answer took.
        p99_ms: 99th percentile of what answers took; 0 if there were none.
        longest_gap_ms: The longest time between two answers that followed each other.
    """

    sent: int
    answered: int
    failed: int
    failures: dict[str, int]
    slowest_ms: float
    p99_ms: float
    longest_gap_ms: float


@dataclass(frozen=True)
class Report:
    """What all clients got.

    Attributes:
        seconds: How long they asked.
        cpu_seconds: What the generator itself took of the processors.
        p99_ms: 99th percentile of what answers took, over all protocols.
        longest_gap_ms: The longest time in which nobody got an answer.
        protocols: What the clients of each protocol got.
        without_retries: What clients of the Open Inference Protocol got that repeat nothing.
        hasty: What clients with too little time got; only statuses that came late count as failures.
    """

    seconds: float
    cpu_seconds: float
    p99_ms: float
    longest_gap_ms: float
    protocols: dict[str, Counts]
    without_retries: Counts
    hasty: Counts


def read_report(entry: dict[str, Any]) -> Report:
    """Reads a report from the JSON of its fields."""
    return Report(
        protocols={name: Counts(**counts) for name, counts in entry["protocols"].items()},
        without_retries=Counts(**entry["without_retries"]),
        hasty=Counts(**entry["hasty"]),
        **{name: entry[name] for name in ("seconds", "cpu_seconds", "p99_ms", "longest_gap_ms")},
    )


@dataclass
class Tally:
    """Counts what clients get.

    Attributes:
        sent: Requests that were made.
        failures: Why requests failed, and how often.
        latencies: Seconds from when a request was made to its answer, in the order of the answers.
        last_answer: Time of `time.monotonic` of the last answer; None before the first one.
        longest_gap: Seconds, at most, between two answers that followed each other.
    """

    sent: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    last_answer: float | None = None
    longest_gap: float = 0.0

    def answer(self, asked: float, now: float) -> None:
        """Counts an answer.

        Args:
            asked: Time of `time.monotonic` at which it was asked for.
            now: The time.
        """
        self.latencies.append(now - asked)
        if self.last_answer is not None:
            self.longest_gap = max(self.longest_gap, now - self.last_answer)
        self.last_answer = now

    def counts(self) -> Counts:
        """Sums up."""
        return Counts(
            self.sent,
            len(self.latencies),
            self.failures.total(),
            dict(self.failures.most_common()),
            round(1000 * max(self.latencies, default=0.0), 1),
            round(1000 * float(np.percentile(self.latencies, 99)), 1) if self.latencies else 0.0,
            round(1000 * self.longest_gap, 1),
        )
