"""The autoscaler as Ray Serve's controller calls it, with reports and kept state that nobody should ever make."""

from __future__ import annotations

import logging
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.serve._private.autoscaling_state import _resolve_policy_callable
from ray.serve.autoscaling_policy import _apply_autoscaling_config
from ray.serve.config import AutoscalingConfig, AutoscalingContext

from services.gateway.control.ray_serve.writing import autoscaling_config
from services.gateway.control.scaling import Scale
from services.policy.autoscaling import (
    Autoscaler,
    AutoscalingSettings,
    History,
    Need,
    read_history,
    read_loads,
    write_history,
)
from steersman.settings import Settings
from tests.unit.services.policy.simulation import Point

NOW = 1_700_000_000.0
CONFIG = AutoscalingConfig(**autoscaling_config(Scale(1, 50, 0.5, 0.0), Settings()))
FIGURES = ("load", "backlog_seconds", "queue_delay_seconds", "batch_seconds", "idle_seconds")
PRESENT = 3
"""How many replicas there are to be so far."""

Decide = Callable[[AutoscalingContext], tuple[int, dict[str, Any]]]


@pytest.fixture
def decide() -> Decide:
    """The policy within Ray's own wrapper."""
    wrapped: Decide = _apply_autoscaling_config(_resolve_policy_callable(CONFIG.policy))
    return wrapped


def context(metrics: Any, state: Any = None, now: float = NOW) -> AutoscalingContext:  # noqa: ANN401 - anything
    return AutoscalingContext(
        deployment_id=None,
        deployment_name="policy",
        app_name="hostile",
        current_num_replicas=PRESENT,
        target_num_replicas=PRESENT,
        running_replicas=[],
        total_num_requests=0.0,
        total_queued_requests=0.0,
        aggregated_metrics={},
        raw_metrics=metrics,
        capacity_adjusted_min_replicas=1,
        capacity_adjusted_max_replicas=50,
        policy_state={} if state is None else state,
        last_scale_up_time=None,
        last_scale_down_time=None,
        current_time=now,
        config=CONFIG,
    )


def report(time: float = NOW, load: Any = 0.5, **others: Any) -> dict[str, list[Point]]:  # noqa: ANN401 - anything
    figures = dict.fromkeys(FIGURES, 0.1) | {"load": load} | others
    return {name: [Point(time, value)] for name, value in figures.items()}


def metrics_of(**reports: dict[str, list[Point]]) -> dict[str, dict[str, list[Point]]]:
    names = sorted({name for found in reports.values() for name in found})
    return {name: {replica: found[name] for replica, found in reports.items() if name in found} for name in names}


def fail() -> Any:  # noqa: ANN401 - stands for metrics
    raise RuntimeError("the metrics are gone")


NO_METRICS: list[Any] = [
    None,
    {},
    [],
    "oops",
    7,
    {"load": None},
    {"load": []},
    {"load": {"one": None}},
    {"load": {"one": []}},
    {"load": {"one": "oops"}},
    {"load": {"one": [None, 7, "x"]}},
    {"load": {"one": [Point(NOW, 0.5)]}},  # and nothing else of that replica
    metrics_of(one=report(load=None)),
    metrics_of(one=report(load="0.5")),
    metrics_of(one=report(load=math.nan)),
    metrics_of(one=report(load=math.inf)),
    metrics_of(one=report(load=-math.inf)),
    metrics_of(one=report(load=True)),
    metrics_of(one=report(load=1e300)),
    metrics_of(one=report(load=10**400)),
    metrics_of(one=report(time=math.nan)),
    metrics_of(one=report(idle_seconds=None)),
    metrics_of(one=report(backlog_seconds=math.nan)),
    {name: {"one": [Point(NOW, 0.5)]} for name in FIGURES[:-1]},
    {name: {"one": [{"timestamp": NOW, "value": 0.5}]} for name in FIGURES},
    {name: {"one": [(NOW, 0.5)]} for name in FIGURES},
    {name.upper(): {"one": [Point(NOW, 0.5)]} for name in FIGURES},
    fail,
]


@pytest.mark.parametrize("metrics", NO_METRICS, ids=map(str, range(len(NO_METRICS))))
def test_reports_that_are_none_change_nothing_and_leave_nothing_behind(decide: Decide, metrics: Any) -> None:  # noqa: ANN401
    replicas, state = decide(context(metrics))
    assert replicas == PRESENT
    # And then all goes on as with a new policy.
    good = metrics_of(one=report(NOW + 1))
    assert decide(context(good, state, NOW + 1)) == decide(context(good, None, NOW + 1))


def test_one_bad_report_does_not_hide_the_good_ones() -> None:
    metrics = metrics_of(good=report(load=0.5), bad=report(load=math.nan), other=report(load=0.25))
    assert [load.load for load in read_loads(metrics, NOW, 0.5)] == [0.5, 0.25]


@pytest.mark.parametrize(
    "state",
    [
        {"history": None},
        {"history": "oops"},
        {"history": {"needs": None}},
        {"history": {"needs": [], "reported": 1.0, "backlog_seconds": 0.0, "change": 0.0}},
        {"history": {"needs": [(NOW, math.nan)], "reported": 1.0, "backlog_seconds": 0.0, "change": 0.0}},
        {"history": {"needs": [(NOW,)], "reported": 1.0, "backlog_seconds": 0.0, "change": 0.0}},
        {"history": {"needs": [(NOW, 1.0)], "reported": None, "backlog_seconds": 0.0, "change": 0.0}},
        {"history": {"needs": [(NOW, 1.0)], "reported": 1.0}},
        {"history": History((Need(NOW, 1.0),), 1.0)},  # as an earlier version kept it
        {"another": "policy's"},
    ],
    ids=lambda state: repr(state)[:60],
)
def test_kept_state_that_is_none_begins_a_new_window(decide: Decide, state: Any) -> None:  # noqa: ANN401 - anything
    # At the latest when there is something to decide again: until then it may not even be read.
    good, later = metrics_of(one=report(NOW + 1)), NOW + 1
    assert decide(context(good, state, later)) == decide(context(good, None, later))


_figure = st.floats(-1e11, 1e11)


@given(st.lists(st.tuples(_figure, _figure), min_size=1, max_size=5), _figure, _figure, _figure)
def test_what_is_kept_are_plain_values_that_are_read_back(
    needs: list[tuple[float, float]], reported: float, backlog: float, change: float
) -> None:
    history = History(tuple(Need(*need) for need in needs), reported, backlog, change)
    written = write_history(history)
    assert read_history(pickle.loads(pickle.dumps(written))) == history  # noqa: S301 - just written
    assert b"services" not in pickle.dumps(written), "another version of the module could not read its own classes"


_anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.binary(max_size=3),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(st.sampled_from([*FIGURES, "one", "needs", "reported"]), children, max_size=4)
        | st.builds(Point, children, children)
    ),
    max_leaves=12,
)


@given(_anything, _anything)
def test_nothing_at_all_makes_it_raise(metrics: Any, history: Any) -> None:  # noqa: ANN401 - anything
    decided, state = Autoscaler()(context(metrics, {"history": history}))
    assert isinstance(decided, int)
    assert isinstance(state, dict)


def test_what_is_unexpected_is_logged_but_not_ten_times_a_second() -> None:
    records: list[logging.LogRecord] = []

    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    handler = Keeping()
    logger = logging.getLogger("ray.serve")
    logger.addHandler(handler)
    try:
        autoscaler = Autoscaler()
        for _ in range(10):
            assert autoscaler(context(fail)) == (PRESENT, {})
    finally:
        logger.removeHandler(handler)
    (record,) = records
    assert "cannot decide" in record.getMessage()
    assert record.exc_info


def test_settings_that_it_does_not_know_are_left_out() -> None:
    """It is made in the controller too, by the config of a gateway that may be newer."""
    autoscaler = Autoscaler(target_share=0.5, look_back_seconds="long", friendliness=9.0)
    assert autoscaler._settings == AutoscalingSettings(target_share=0.5)
