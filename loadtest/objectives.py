"""What a load test has to show, and whether it did."""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from loadtest.timeline import Stretch, Timeline, percentile
from steersman.errors import InvalidArgumentError

FILE = Path(__file__).with_name("objectives.toml")

GENERATOR_CPU_SHARE = 0.9
"""Share of a processor above which the load generator is taken for the bottleneck: it has one for all users."""

GENERATOR_LAG_SECONDS = 0.1
"""Lateness above which it is, likewise: the median over a level of the greatest in each second."""

_WARM_UP_SHARE = 1 / 3
"""Of a soak, before memory counts."""

_REQUESTS = 100_000
_ONSET_SECONDS = 10.0
"""How long after its beginning a level may show that it is too much."""

_SETTLED_SECONDS = 5.0
"""At the beginning of a level, users are still coming."""

NAMES = (
    "error_rate",
    "p99_milliseconds",
    "replicas_at_least",
    "scale_up_seconds",
    "scale_down_seconds",
    "oscillations",
    "served_share",
    "longest_gap_seconds",
    "megabytes_per_100k_requests",
)


@dataclass(frozen=True)
class Verdict:
    """Whether an objective held.

    Attributes:
        name: The objective's, with whom it is about.
        bound: What was wanted.
        measured: What was measured; None where it could not be.
        holds: Whether it held. What could not be measured did not.
        note: What else there is to know; may be empty.
    """

    name: str
    bound: float
    measured: float | None
    holds: bool
    note: str = ""


def read_objectives(scenario: str, path: Path = FILE) -> dict[str, float]:
    """Reads the objectives of a scenario.

    Raises:
        InvalidArgumentError: If the file cannot be read, or names an objective that there is not.
    """
    try:
        found = tomllib.loads(path.read_text()).get(scenario, {})
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise InvalidArgumentError(f"expected objectives in {path}: {error}") from None
    for name, bound in found.items():
        if name not in NAMES:
            raise InvalidArgumentError(f"expected an objective among {', '.join(NAMES)}, got {name!r} in {path}")
        if not isinstance(bound, int | float):
            raise InvalidArgumentError(f"expected a number for {name} in {path}, got {bound!r}")
    return {name: float(bound) for name, bound in found.items()}


def judge(objectives: Mapping[str, float], timeline: Timeline) -> list[Verdict]:
    """Tells which objectives held."""
    verdicts: list[Verdict] = []
    for name, bound in objectives.items():
        match name:
            case "error_rate":
                verdicts.append(_at_most(name, bound, error_rate(timeline)))
            case "p99_milliseconds":
                verdicts += _p99(bound, timeline)
            case "replicas_at_least":
                most = max((entry.ready for entry in timeline.served), default=0)
                verdicts.append(Verdict(name, bound, most, most >= bound))
            case "scale_up_seconds":
                verdicts.append(_at_most(name, bound, slowest_scale_up(timeline)))
            case "scale_down_seconds":
                verdicts.append(_at_most(name, bound, scale_down(timeline)))
            case "oscillations":
                verdicts.append(_at_most(name, bound, oscillations(timeline)))
            case "served_share":
                verdicts.append(_served(bound, timeline))
            case "longest_gap_seconds":
                verdicts.append(_at_most(name, bound, timeline.longest_gap(0, _end(timeline))))
            case "megabytes_per_100k_requests":
                verdicts += _memory(bound, timeline)
    return verdicts


def error_rate(timeline: Timeline) -> float | None:
    """Gives the share of requests that failed; None of none."""
    everything = timeline.within(0, _end(timeline) + 1)
    failed = everything.failures.total()
    ended = failed + len(everything.latencies)
    return failed / ended if ended else None


def generator_bound(timeline: Timeline, stretch: Stretch) -> bool:
    """Tells whether the load generator was at its own limit on a level, so that the level says little of the system."""
    seconds = [entry for entry in timeline.generator if stretch.began <= entry.time < stretch.ended]
    if not seconds:
        return False
    cpu = sum(entry.cpu_share for entry in seconds) / len(seconds)
    lags = sorted(entry.lag_seconds for entry in seconds)
    return cpu > GENERATOR_CPU_SHARE or lags[len(lags) // 2] > GENERATOR_LAG_SECONDS


def served_share(timeline: Timeline, stretch: Stretch) -> float | None:
    """Gives the share of what paced users had time for on a level that was answered; None where nobody is paced.

    On a plateau only its second half counts: replicas that it needs are still starting at its beginning.
    """
    began = judged_from(stretch)
    missed = timeline.missed_within(began, stretch.ended)
    requests = timeline.within(began, stretch.ended)
    offered = len(requests.latencies) + requests.failures.total() + missed
    return len(requests.latencies) / offered if offered and timeline.is_paced else None


def judged_from(stretch: Stretch) -> float:
    """Gives the time from which a level counts: once its users, and of a plateau its replicas, have come."""
    settles = (stretch.ended - stretch.began) / 2 if stretch.phase == "plateau" else _SETTLED_SECONDS
    return min(stretch.began + settles, stretch.ended)


def slowest_scale_up(timeline: Timeline) -> float | None:
    """Gives the seconds until a replica that an overload made for was ready, at most; None if no replica came.

    The first one of a level counts from the overload: from the level's beginning, if a replica was wanted soon after
    that, else from where observations began to wait. Further ones count from when they were wanted, if nothing waited.
    """
    slowest, counted = None, 0.0
    for before, after in itertools.pairwise(timeline.served):
        if after.ready > before.ready:
            level = max((stretch.began for stretch in timeline.stretches if stretch.began <= after.time), default=0.0)
            wanted = min(entry.time for entry in timeline.served if entry.wanted >= after.ready)
            is_first = counted < level or slowest is None
            if is_first and wanted - level < _ONSET_SECONDS:
                since = level
            else:
                since = min([wanted, *_overloaded_since(timeline, wanted)])
            counted = after.time
            slowest = max(slowest or 0.0, after.time - since)
    return slowest


def _overloaded_since(timeline: Timeline, decided: float) -> list[float]:
    """Gives when observations began to wait, without a pause until a decision."""
    since: list[float] = []
    for entry in timeline.served:
        if entry.time > decided:
            break
        if entry.waiting == 0:
            since = []
        elif not since:
            since = [entry.time]
    return since


def scale_down(timeline: Timeline) -> float | None:
    """Gives the seconds from the end of the load until the least replicas were there again; None if that never was."""
    rests = [stretch for stretch in timeline.stretches if stretch.phase == "rest"]
    if not rests or not timeline.served:
        return None
    least = min(entry.ready for entry in timeline.served if entry.ready) if timeline.served else 0
    back = [entry.time for entry in timeline.served if entry.time >= rests[0].began and entry.ready <= least]
    return back[0] - rests[0].began if back else None


def oscillations(timeline: Timeline) -> int | None:
    """Counts the steps down of what was wanted on the plateau; None without one."""
    plateaus = [stretch for stretch in timeline.stretches if stretch.phase == "plateau"]
    if not plateaus:
        return None
    wanted = [entry.wanted for entry in timeline.served if plateaus[0].began <= entry.time < plateaus[0].ended]
    return sum(later < earlier for earlier, later in itertools.pairwise(wanted))


def memory_slopes(timeline: Timeline) -> dict[str, float]:
    """Fits lines to the memory of processes after the warm-up.

    Returns:
        Megabytes per 100,000 requests, by process; only of those that lived through most of the time.
    """
    end = _end(timeline)
    began = end * _WARM_UP_SHARE
    requests = len(timeline.within(began, end).latencies)
    slopes = {}
    for name, points in timeline.memory.items():
        late = [(time, megabytes) for time, megabytes in points if time >= began]
        if requests and len(late) > 2 and late[-1][0] - late[0][0] > (end - began) / 2:
            times, megabytes = np.array(late).T
            per_second = float(stats.linregress(times, megabytes).slope)
            slopes[name] = per_second * (end - began) / requests * _REQUESTS
    return slopes


def _p99(bound: float, timeline: Timeline) -> list[Verdict]:
    """Judges the plateau, or the whole where there is none, for each kind of user."""
    judged = [stretch for stretch in timeline.stretches if stretch.phase == "plateau"] or timeline.stretches
    if not judged:
        return [Verdict("p99_milliseconds", bound, None, holds=False)]
    began, ended = judged_from(judged[0]), judged[-1].ended
    return [
        _at_most(f"p99_milliseconds of {kind}", bound, percentile(timeline.within(began, ended, kind).latencies, 99))
        for kind in timeline.kinds()
    ]


def _served(bound: float, timeline: Timeline) -> Verdict:
    """Judges every level on which the replicas that there may be could do what was offered."""
    shares = {
        stretch.users: share
        for stretch in timeline.stretches
        if not generator_bound(timeline, stretch) and (share := served_share(timeline, stretch)) is not None
    }
    skipped = sum(generator_bound(timeline, stretch) for stretch in timeline.stretches)
    note = f"{skipped} levels were bound by the load generator" if skipped else ""
    if not shares:
        return Verdict("served_share", bound, None, holds=False, note=note)
    worst = min(shares, key=lambda users: shares[users])
    note = "; ".join(filter(None, [f"least with {worst} users", note]))
    return Verdict("served_share", bound, shares[worst], shares[worst] >= bound, note)


def _memory(bound: float, timeline: Timeline) -> list[Verdict]:
    slopes = memory_slopes(timeline)
    if not slopes:
        return [Verdict("megabytes_per_100k_requests", bound, None, holds=False, note="no process was followed")]
    return [_at_most(f"megabytes_per_100k_requests of {name}", bound, slope) for name, slope in sorted(slopes.items())]


def _at_most(name: str, bound: float, measured: float | None) -> Verdict:
    return Verdict(name, bound, measured, measured is not None and measured <= bound)


def _end(timeline: Timeline) -> float:
    return float(max(timeline.requests, default=0) + 1)
