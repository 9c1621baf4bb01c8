"""What was seen during a load test, second by second."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Served:
    """What the system said of itself at a time.

    Attributes:
        time: Seconds since the beginning.
        wanted: Replicas that are wanted.
        ready: Replicas that are ready.
        starting: Replicas that are starting.
        draining: Replicas that finish what they have.
        waiting: Observations that wait for a replica.
        mean_batch: Observations in a batch; None while nothing was computed.
        observations_per_second: Observations computed.
        busy_share: Share of one processor that the replicas' processes took, on the average of the replicas; None where
            they are not on this machine.
    """

    time: float
    wanted: int
    ready: int
    starting: int
    draining: int
    waiting: int
    mean_batch: float | None
    observations_per_second: float
    busy_share: float | None = None


@dataclass(frozen=True)
class Mark:
    """Something that happened.

    Attributes:
        time: Seconds since the beginning.
        kind: "scaling", "swap", "fault" or "level".
        text: What, in a few words.
    """

    time: float
    kind: str
    text: str


@dataclass(frozen=True)
class Generator:
    """How the load generator itself did, in a second.

    Attributes:
        time: Seconds since the beginning.
        cpu_share: Share of one processor that it took.
        lag_seconds: The longest time by which it was late for something.
    """

    time: float
    cpu_share: float
    lag_seconds: float


@dataclass(frozen=True)
class Stretch:
    """A level of the load as it was.

    Attributes:
        users: How many.
        phase: What it was for.
        began: Seconds since the beginning.
        ended: Likewise.
    """

    users: int
    phase: str
    began: float
    ended: float


@dataclass
class Requests:
    """The requests of one kind of user that ended within a second."""

    latencies: list[float] = field(default_factory=list)
    observations: int = 0
    failures: Counter[str] = field(default_factory=Counter)


@dataclass
class Timeline:
    """Everything that was seen.

    Attributes:
        requests: Ended requests, by second and kind of user.
        missed: Requests that paced users had time for and did not make, since they still waited, by second.
        is_paced: Whether there were such users.
        answered: Times at which answers came.
        served: What the system said of itself.
        marks: What happened.
        generator: How the generator did.
        stretches: The levels.
        memory: Resident megabytes, by process: (seconds, megabytes) each.
    """

    requests: dict[int, dict[str, Requests]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(Requests)))
    missed: Counter[int] = field(default_factory=Counter)
    is_paced: bool = False
    answered: list[float] = field(default_factory=list)
    served: list[Served] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    generator: list[Generator] = field(default_factory=list)
    stretches: list[Stretch] = field(default_factory=list)
    memory: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))

    def add(self, time: float, kind: str, latency: float, observations: int, failure: str) -> None:
        """Adds a request.

        Args:
            time: When it ended, seconds since the beginning.
            kind: Of the user.
            latency: Seconds.
            observations: That it was about.
            failure: Why it failed; empty if it did not.
        """
        found = self.requests[int(time)][kind]
        if failure:
            found.failures[failure] += 1
            return
        found.latencies.append(latency)
        found.observations += observations
        self.answered.append(time)

    def kinds(self) -> list[str]:
        """Lists the kinds of users that have asked, sorted."""
        return sorted({kind for second in self.requests.values() for kind in second})

    def within(self, began: float, ended: float, kind: str | None = None) -> Requests:
        """Puts together the requests of whole seconds.

        Args:
            began: Seconds since the beginning.
            ended: Likewise; what ended then or later does not count.
            kind: Of the users; None for all.
        """
        found = Requests()
        for second, by_kind in self.requests.items():
            if began <= second < ended:
                for name, requests in by_kind.items():
                    if kind in {None, name}:
                        found.latencies += requests.latencies
                        found.observations += requests.observations
                        found.failures += requests.failures
        return found

    def missed_within(self, began: float, ended: float) -> int:
        """Counts the requests that paced users had time for and did not make, in whole seconds."""
        return sum(count for second, count in self.missed.items() if began <= second < ended)

    def longest_gap(self, began: float, ended: float) -> float:
        """Gives the longest time between two answers, in seconds."""
        inside = sorted(time for time in self.answered if began <= time <= ended)
        return float(np.diff(inside).max()) if len(inside) > 1 else ended - began

    def as_json(self) -> dict[str, Any]:
        """Gives what a chart needs, as JSON values: a row for each second."""
        seconds = range(max(self.requests, default=0) + 1)
        return {
            "seconds": list(seconds),
            "requests_per_second": [sum(len(entry.latencies) for entry in self._at(second)) for second in seconds],
            "observations_per_second": [sum(entry.observations for entry in self._at(second)) for second in seconds],
            "failures_per_second": [sum(entry.failures.total() for entry in self._at(second)) for second in seconds],
            **{
                f"p{percent}_milliseconds": [
                    percentile([latency for entry in self._at(second) for latency in entry.latencies], percent)
                    for second in seconds
                ]
                for percent in (50, 95, 99)
            },
            "served": [dataclasses.asdict(entry) for entry in self.served],
            "marks": [dataclasses.asdict(entry) for entry in self.marks],
            "generator": [dataclasses.asdict(entry) for entry in self.generator],
            "levels": [dataclasses.asdict(entry) for entry in self.stretches],
            "memory_megabytes": {name: list(points) for name, points in self.memory.items()},
        }

    def _at(self, second: int) -> Iterable[Requests]:
        return self.requests[second].values() if second in self.requests else ()


def percentile(latencies: Sequence[float], percent: float) -> float | None:
    """Gives a percentile of latencies in milliseconds; None of none."""
    return float(np.percentile(latencies, percent)) * 1000 if latencies else None
