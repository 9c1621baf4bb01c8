"""How many replicas a policy needs: the autoscaling policy that Ray Serve asks ten times a second.

Once per metrics interval, the newest reports of all running replicas become one figure, the need:

    demand = load + growth
    need = max(demand / target, demand + backlog / drain)

- `load` is the sum of the replicas' loads (see `services.policy.load`): how many replicas would do what is being done
  if none ever idled.
- `growth` is how much the backlog at the gateways, in seconds of one replica's time, grows per second: how many
  replicas would do what comes in, but is not being done. Where replicas are saturated, their load says nothing of what
  they are missing; this does, so that one step goes straight to what is needed. While a backlog is worked off, it is
  negative, and what is done beyond what comes in is not taken for demand.
- Divided by the `target` share, demand leaves each replica the head room that was asked for. That works off a backlog
  as well; where it would take longer than `drain` seconds, as many more are needed.

The number of replicas then moves only as far as the needs of a while agree on:

    up   = ceil(least need of the last two intervals / (1 + tolerance))
    down = ceil(greatest need of the look-back window * (1 + tolerance))
    replicas = min(max(replicas, up), down)

So it goes up within about two intervals, by as much as it takes, and down slowly, to what the busiest moment of the
window needed. Between `up` and `down` lies a dead band: after a step up, the need must fall by twice the tolerance, and
stay there for a whole window, before the step is taken back, which is why a steady load never makes it oscillate,
however noisy it is.

Ray Serve pickles this module by value for its controller, so it uses nothing but the standard library. It is called
there unguarded, so it trusts neither reports nor what it has kept itself.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

_log = logging.getLogger("ray.serve")

_OLDEST_REPORT_INTERVALS = 10
"""Replicas that have not reported for so many intervals hang or are gone; what they had to do shows at the others."""

_LARGEST_FIGURE = 1e12
_COMPLAIN_SECONDS = 60.0
_STATE = "history"
"""Under what Ray Serve keeps the history."""

_LATEST = ("backlog_seconds", "queue_delay_seconds", "batch_seconds", "idle_seconds")


@dataclass(frozen=True)
class AutoscalingSettings:
    """What is to be aimed at.

    Attributes:
        target_share: Share of their time that replicas are to be loaded.
        tolerance: How far the need may be off the number of replicas, relative to it, before that changes.
        look_back_seconds: How long the need must have been lower before there are fewer replicas.
        drain_seconds: In what time a backlog is to be worked off.
        idle_seconds: How long nothing must have come before the last replica goes, where none need be kept.
    """

    target_share: float = 0.7
    tolerance: float = 0.1
    look_back_seconds: float = 60.0
    drain_seconds: float = 15.0
    idle_seconds: float = 300.0


@dataclass(frozen=True)
class ReplicaLoad:
    """The newest report of one replica; `services.policy.load.LoadReport` describes the figures.

    Attributes:
        time: When it was made, in seconds since the epoch.
        load: Its load.
        backlog_seconds: What waits at the gateways, in seconds of its time.
        late_seconds: How much longer than two of its batches observations wait.
        idle_seconds: How long it has had nothing to do.
    """

    time: float
    load: float
    backlog_seconds: float
    late_seconds: float
    idle_seconds: float


@dataclass(frozen=True)
class Need:
    """How many replicas were needed at one time.

    Attributes:
        time: The time, in seconds.
        replicas: How many, in fractions.
    """

    time: float
    replicas: float


@dataclass(frozen=True)
class History:
    """What is remembered from one decision to the next.

    Attributes:
        needs: The needs within the look-back window, oldest first; never empty.
        reported: Time of the newest report that was taken into account.
        backlog_seconds: The backlog at the latest decision.
        change: How fast it changed before that, in seconds per second.
    """

    needs: tuple[Need, ...]
    reported: float
    backlog_seconds: float = 0.0
    change: float = 0.0


def decide(
    settings: AutoscalingSettings,
    replicas: int,
    loads: Sequence[ReplicaLoad],
    history: History | None,
    now: float,
) -> tuple[int, History | None]:
    """Decides how many replicas there are to be, not regarding limits.

    Args:
        settings: What is to be aimed at.
        replicas: How many there are to be so far.
        loads: The newest report of each running replica that has made one lately.
        history: What the decision before gave; None if there was none.
        now: Time, in seconds since the epoch.

    Returns:
        How many replicas, and what is to be remembered.
    """
    if not loads or not replicas:
        # Replicas are starting, or the policy is scaled to zero, from where only a request brings it back.
        return replicas, history
    if history is None:
        # Nothing is known of the time before, so that what there is counts as needed then.
        history = History((Need(now, float(replicas)),), 0.0, _backlog(loads))
    reported = max(load.time for load in loads)
    if reported == history.reported:
        return replicas, history
    backlog = _backlog(loads)
    elapsed = now - history.needs[-1].time
    change = (backlog - history.backlog_seconds) / elapsed if elapsed > 0 else 0.0
    demand = max(0.0, sum(load.load for load in loads) + _growth(change, history.change))
    need = max(demand / settings.target_share, demand + backlog / settings.drain_seconds)
    kept = tuple(past for past in history.needs if past.time > now - settings.look_back_seconds)
    needs = (*(kept or history.needs[-1:]), Need(now, need))
    history = History(needs, reported, backlog, change)
    up = math.ceil(min(past.replicas for past in needs[-2:]) / (1 + settings.tolerance))
    down = math.ceil(max(past.replicas for past in needs) * (1 + settings.tolerance))
    decided = max(1, min(max(replicas, up), down))
    if replicas == 1 and min(load.idle_seconds for load in loads) >= settings.idle_seconds:
        decided = 0
    return decided, history


def read_loads(metrics: object, now: float, interval: float) -> list[ReplicaLoad]:
    """Reads what replicas have reported.

    Args:
        metrics: By metric and replica the points of the latest reports, each with `timestamp` and `value`, oldest
            first; a replica of which that is not so counts as one that has not reported.
        now: Time, in seconds since the epoch.
        interval: Seconds between two reports, each of which brings several points.

    Returns:
        The newest figures of each replica whose latest report is not too old; the load is the mean over the interval.
    """
    loads = []
    for replica, series in _fields(_fields(metrics).get("load")).items():
        points = _points(series)
        latest = {name: _newest(_fields(_fields(metrics).get(name)).get(replica)) for name in _LATEST}
        if not points or None in latest.values():
            continue
        newest, _ = points[-1]
        if newest < now - _OLDEST_REPORT_INTERVALS * interval:
            continue
        recent = [value for timestamp, value in points if timestamp > newest - 0.9 * interval]
        figures = {name: value for name, value in latest.items() if value is not None}
        loads.append(
            ReplicaLoad(
                newest,
                sum(recent) / len(recent),
                figures["backlog_seconds"],
                max(0.0, figures["queue_delay_seconds"] - 2 * figures["batch_seconds"]),
                figures["idle_seconds"],
            )
        )
    return loads


def write_history(history: History | None) -> dict[str, Any]:
    """Writes a history as plain values, which outlive this module: Ray Serve keeps them while it loads another one."""
    if history is None:
        return {}
    return {
        "needs": [(need.time, need.replicas) for need in history.needs],
        "reported": history.reported,
        "backlog_seconds": history.backlog_seconds,
        "change": history.change,
    }


def read_history(state: object) -> History | None:
    """Reads what `write_history` wrote; None if it is anything else, or there was none."""
    fields = _fields(state)
    pairs = fields.get("needs")
    if not isinstance(pairs, (list, tuple)):
        return None
    needs = [
        Need(float(pair[0]), float(pair[1]))
        for pair in pairs
        if isinstance(pair, (list, tuple)) and len(pair) == 2 and _is_figure(pair[0]) and _is_figure(pair[1])
    ]
    reported, backlog, change = (fields.get(name) for name in ("reported", "backlog_seconds", "change"))
    if not needs or len(needs) < len(pairs):
        return None
    if not (_is_figure(reported) and _is_figure(backlog) and _is_figure(change)):
        return None
    return History(tuple(needs), reported, backlog, change)


def _last_decision(state: object) -> float:
    """Gives the time of the newest need that `write_history` wrote, without reading the rest."""
    needs = _fields(state).get("needs")
    newest = needs[-1] if isinstance(needs, (list, tuple)) and needs else None
    return newest[0] if isinstance(newest, (list, tuple)) and newest and _is_figure(newest[0]) else -math.inf


def _fields(value: object) -> Mapping[Any, Any]:
    """Gives a mapping, an empty one for what is none."""
    return value if isinstance(value, Mapping) else {}


def _points(series: object) -> list[tuple[float, float]]:
    """Gives time and value of each point that has both."""
    if not isinstance(series, Iterable):
        return []
    pairs = [(getattr(point, "timestamp", None), getattr(point, "value", None)) for point in series]
    return [(timestamp, value) for timestamp, value in pairs if _is_figure(timestamp) and _is_figure(value)]


def _newest(series: object) -> float | None:
    """Gives the value of the newest point; nothing if there is none, or that one is no point."""
    points = _points(series[-1:]) if isinstance(series, (list, tuple)) else []
    return points[0][1] if points else None


def _is_figure(value: object) -> TypeGuard[float]:
    """Tells whether something is a number that can be reckoned with: none of the figures is ever near the limit."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _LARGEST_FIGURE


def _backlog(loads: Sequence[ReplicaLoad]) -> float:
    """Tells what waits, in seconds of a replica's time.

    Every replica tells of the same queues, as it last saw them. Where observations wait much longer than they should,
    more waits than the figures say: as much as all replicas could have done in that time.
    """
    return max(max(load.backlog_seconds for load in loads), sum(load.late_seconds for load in loads))


def _growth(change: float, earlier: float) -> float:
    """Tells how fast a backlog grows or shrinks: as far as two changes in a row agree, since one burst is no growth."""
    if change * earlier <= 0:
        return 0.0
    return min(change, earlier) if change > 0 else max(change, earlier)


class Autoscaler:
    """The policy as Ray Serve calls it: `autoscaling_config.policy` names this class and its arguments.

    It never raises: Ray Serve calls it unguarded in its controller, where one exception would hold up all applications.

    Args:
        **settings: Fields of `AutoscalingSettings`. What is no field of it, or no number, is left out: the gateway that
            wrote it may be newer.
    """

    def __init__(self, **settings: object) -> None:
        fields = AutoscalingSettings.__dataclass_fields__
        known = {name: value for name, value in settings.items() if name in fields and _is_figure(value)}
        if len(known) < len(settings):
            _log.warning("the autoscaler does not know these settings: %s", sorted(settings.keys() - known.keys()))
        self._settings = AutoscalingSettings(**known)
        self._complained = -math.inf

    def __call__(self, context: Any) -> tuple[int, dict[str, Any]]:  # noqa: ANN401 - ray.serve's AutoscalingContext
        """Decides how many replicas there are to be; Ray Serve sees to the limits.

        Args:
            context: What Ray Serve knows of the deployment.

        Returns:
            How many, and what Ray Serve gives back with the next context. If something unexpected happens, as many as
            there are to be so far, and nothing, so that the next decision begins a new window.
        """
        try:
            return self._decide(context)
        except Exception:  # noqa: BLE001 - see above
            # Ray Serve asks ten times a second.
            if time.monotonic() > self._complained + _COMPLAIN_SECONDS:
                self._complained = time.monotonic()
                _log.exception("the autoscaler cannot decide; the number of replicas stays as it is")
            return context.target_num_replicas, {}

    def _decide(self, context: Any) -> tuple[int, dict[str, Any]]:  # noqa: ANN401 - ray.serve's AutoscalingContext
        now, interval = context.current_time, context.config.metrics_interval_s
        replicas, kept = context.target_num_replicas, _fields(context.policy_state).get(_STATE)
        # Between two reports there is nothing to decide. A little less than an interval, since Ray Serve asks coarsely;
        # and either way, since clocks are set back.
        if abs(now - _last_decision(kept)) <= 0.9 * interval:
            return replicas, {_STATE: kept}
        loads = read_loads(context.raw_metrics, now, interval)
        replicas, history = decide(self._settings, replicas, loads, read_history(kept), now)
        return replicas, {_STATE: write_history(history)}
