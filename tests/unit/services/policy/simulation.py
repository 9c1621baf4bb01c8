"""A simulated Ray Serve: a queue, replicas that take time to start, and the real autoscaler, called as Ray Serve does.

Time goes in steps of Ray Serve's control loop, 0.1 s. Work is a quantity of replica-seconds that flows: a replica works
off at most its own time, and what no replica works off waits. Each replica makes a report every half metrics interval
and pushes the latest ones every interval, at times of its own. Ray's own wrapper around policy functions is in the loop
(scaling factors, delays), and its bounds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from ray.serve._private.autoscaling_state import _resolve_policy_callable
from ray.serve.autoscaling_policy import _apply_autoscaling_config
from ray.serve.config import AutoscalingConfig, AutoscalingContext

STEP = 0.1
"""Seconds; the period of Ray Serve's control loop."""

_EPOCH = 1_700_000_000.0
_POINTS = 5
"""What Ray Serve keeps of a replica's reports: those of 2.5 intervals, two in each."""


class Point(NamedTuple):
    """A figure of a report, as Ray Serve keeps it."""

    timestamp: float
    value: float


@dataclass(eq=False)
class SimulatedReplica:
    """A replica from the moment in which it is wanted.

    Attributes:
        ready: When it has started.
        phase: When in an interval it pushes, in steps.
    """

    ready: float
    phase: int
    worked: float = 0.0
    since: int = 0
    busy: float = 0.0
    backlog: float = 0.0
    made: deque[dict[str, Point]] = field(default_factory=lambda: deque(maxlen=_POINTS))
    pushed: list[dict[str, Point]] = field(default_factory=list)


@dataclass
class Run:
    """What happened, by step.

    Attributes:
        time: Seconds since the start.
        demand: What came in, in replicas that would do it if none ever idled.
        target: How many replicas were wanted.
        running: How many were running.
        backlog: What waited, in seconds of a replica's time.
    """

    time: npt.NDArray[np.float64]
    demand: npt.NDArray[np.float64]
    target: npt.NDArray[np.int64]
    running: npt.NDArray[np.int64]
    backlog: npt.NDArray[np.float64]

    def changes(self, start: float = 0.0, end: float = np.inf) -> int:
        """Counts how often the number of wanted replicas changed within a time."""
        inside = self.target[(self.time >= start) & (self.time < end)]
        return int(np.count_nonzero(np.diff(inside)))

    def when(self, condition: npt.NDArray[np.bool_]) -> float:
        """Gives the first time at which a condition holds."""
        assert condition.any()
        return float(self.time[condition.argmax()])


def simulate(
    config: dict[str, Any],
    demand: npt.NDArray[np.float64],
    *,
    start_seconds: float = 8.0,
    at_start: int = 1,
    longest_wait: float = 30.0,
    disturb: Callable[[int, list[SimulatedReplica]], None] | None = None,
    seed: int = 0,
) -> Run:
    """Runs a policy through a curve of load.

    Args:
        config: The `autoscaling_config` of its deployment.
        demand: What comes in at each step, in replicas that would do it if none ever idled.
        start_seconds: What a replica takes to start.
        at_start: Replicas that run at the start.
        longest_wait: Requests give up after so many seconds, so that there is never more in the queue than they bring.
        disturb: Called with each step and the replicas, which it may take away.
        seed: Seed of when replicas push.
    """
    autoscaling = AutoscalingConfig(**config)
    decide = _apply_autoscaling_config(_resolve_policy_callable(autoscaling.policy))
    random = np.random.default_rng(seed)
    interval_steps = round(autoscaling.metrics_interval_s / STEP)
    report_steps = max(1, interval_steps // 2)

    def start(now: float) -> SimulatedReplica:
        return SimulatedReplica(now, int(random.integers(interval_steps)))

    replicas = [start(0.0) for _ in range(at_start)]
    target, backlog = at_start, 0.0
    state: dict[str, Any] = {}
    targets, runnings, backlogs = [], [], []
    for step, arriving in enumerate(demand):
        now = step * STEP
        if disturb is not None:
            disturb(step, replicas)
        running = [replica for replica in replicas if replica.ready <= now]
        backlog += arriving * STEP
        worked = min(backlog, len(running) * STEP)
        backlog = min(backlog - worked, longest_wait * max(float(arriving), len(running)))
        for replica in running:
            replica.worked += worked / len(running)
            replica.busy = replica.busy if not worked else now
            replica.backlog = backlog
            replica.since += 1
            if (step + replica.phase) % report_steps == 0:
                _report(replica, now, len(running))
            if (step + replica.phase) % interval_steps == 0:
                replica.pushed = list(replica.made)
        # Ray Serve keeps replacing replicas that are lost.
        target, state = _decide(decide, autoscaling, target, running, state, now)
        while len(replicas) < target:
            replicas.append(start(now + start_seconds))
        if len(replicas) > target:
            replicas.sort(key=lambda replica: replica.ready)
            del replicas[target:]
        targets.append(target)
        runnings.append(sum(replica.ready <= now for replica in replicas))
        backlogs.append(backlog)
    return Run(
        np.arange(len(demand)) * np.float64(STEP),
        demand,
        np.array(targets, np.int64),
        np.array(runnings, np.int64),
        np.array(backlogs, np.float64),
    )


def _report(replica: SimulatedReplica, now: float, running: int) -> None:
    """Makes the report of one replica."""
    figures = {
        "load": replica.worked / (replica.since * STEP),
        "backlog_seconds": replica.backlog,
        "queue_delay_seconds": replica.backlog / running,
        "batch_seconds": 0.01,
        "idle_seconds": now - max(replica.busy, replica.ready),
    }
    replica.made.append({name: Point(_EPOCH + now, value) for name, value in figures.items()})
    replica.worked, replica.since = 0.0, 0


def _decide(
    decide: Callable[[AutoscalingContext], tuple[int, dict[str, Any]]],
    config: AutoscalingConfig,
    target: int,
    running: list[SimulatedReplica],
    state: dict[str, Any],
    now: float,
) -> tuple[int, dict[str, Any]]:
    """Asks the autoscaler as Ray Serve does, and applies the bounds."""
    reporting = [replica for replica in running if replica.pushed]
    names = reporting[0].pushed[0] if reporting else {}
    context = AutoscalingContext(
        deployment_id=None,
        deployment_name="policy",
        app_name="simulated",
        current_num_replicas=len(running),
        target_num_replicas=target,
        running_replicas=running,
        total_num_requests=0.0,
        total_queued_requests=0.0,
        aggregated_metrics={},
        raw_metrics=lambda: {
            name: {replica: [report[name] for report in replica.pushed] for replica in reporting} for name in names
        },
        capacity_adjusted_min_replicas=config.min_replicas,
        capacity_adjusted_max_replicas=config.max_replicas,
        policy_state=dict(state),
        last_scale_up_time=None,
        last_scale_down_time=None,
        current_time=_EPOCH + now,
        config=config,
    )
    decided, state = decide(context)
    return max(config.min_replicas, min(config.max_replicas, decided)), state
