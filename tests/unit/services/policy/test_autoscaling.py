"""The autoscaler, asked directly and in simulated hours of load."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.gateway.control.ray_serve.writing import autoscaling_config
from services.gateway.control.scaling import Scale
from services.policy.autoscaling import AutoscalingSettings, History, Need, ReplicaLoad, decide, read_loads
from services.policy.load import LoadMeter
from steersman.settings import Settings
from tests.unit.services.policy.clock import Clock
from tests.unit.services.policy.simulation import STEP, Point, SimulatedReplica, simulate

TARGET = 0.7
LOOK_BACK = 60.0
START = 8.0
"""Seconds that a simulated replica takes to start."""

Curve = npt.NDArray[np.float64]


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> Iterator[None]:
    """Keeps Ray from telling of every policy that it makes."""
    logger = logging.getLogger("ray.serve")
    level = logger.level
    logger.setLevel(logging.WARNING)
    yield
    logger.setLevel(level)


def config(min_replicas: int = 1, max_replicas: int = 50) -> dict[str, Any]:
    return autoscaling_config(Scale(min_replicas, max_replicas, 0.5, 0.0), Settings())


def steps(seconds: float) -> int:
    return round(seconds / STEP)


def constant(demand: float, seconds: float) -> Curve:
    return np.full(steps(seconds), demand)


def needed(demand: float) -> int:
    """How many replicas keep the target share, or are within the tolerance of that."""
    return int(np.ceil(demand / TARGET / 1.1))


# ------------------------------------------------------------------------------------------------- one decision


def load_of(load: float = 0.0, *, backlog: float = 0.0, late: float = 0.0, idle: float = 0.0) -> ReplicaLoad:
    return ReplicaLoad(10.0, load, backlog, late, idle)


def history(*needs: float, backlog: float = 0.0, change: float = 0.0) -> History:
    """A history of needs, the last of them half a second ago."""
    return History(
        tuple(Need(10 - 0.5 * age, need) for age, need in zip(range(len(needs), 0, -1), needs, strict=True)),
        9.5,
        backlog,
        change,
    )


def decided(replicas: int, loads: list[ReplicaLoad], past: History | None) -> int:
    return decide(AutoscalingSettings(), replicas, loads, past, 10.0)[0]


def test_without_reports_everything_stays() -> None:
    assert decide(AutoscalingSettings(), 3, [], None, 10.0) == (3, None)


def test_the_first_report_is_no_reason_to_change_anything() -> None:
    assert decided(3, [load_of(1.0)] * 3, None) == 3
    assert decided(3, [load_of(0.0)] * 3, None) == 3


def test_demand_is_what_is_done_and_what_is_not_done_over_the_target() -> None:
    _, after = decide(AutoscalingSettings(), 2, [load_of(0.9)] * 2, history(2.0), 10.0)
    assert after is not None
    assert after.needs[-1].time == 10.0
    assert after.needs[-1].replicas == pytest.approx(1.8 / TARGET)
    _, after = decide(
        AutoscalingSettings(), 2, [load_of(1.0, backlog=3.0)] * 2, history(2.0, backlog=1.5, change=5.0), 10.0
    )
    assert after is not None
    assert after.needs[-1].replicas == pytest.approx((2 + 3) / TARGET), "1.5 s in half a second make 3 replicas"


def test_a_single_burst_is_no_growth() -> None:
    _, after = decide(AutoscalingSettings(), 1, [load_of(0.5, backlog=6.0)], history(1.0), 10.0)
    assert after is not None
    assert after.needs[-1].replicas == pytest.approx(0.5 + 6 / 15)


def test_what_is_done_to_work_off_a_backlog_is_no_demand() -> None:
    past = history(5.0, 5.0, backlog=10.0, change=-4.0)
    _, after = decide(AutoscalingSettings(), 5, [load_of(1.0, backlog=9.0)] * 5, past, 10.0)
    assert after is not None
    assert after.needs[-1].replicas == pytest.approx(max((5 - 2) / TARGET, 5 - 2 + 9 / 15))


def test_observations_that_wait_too_long_are_a_backlog_whatever_the_queue_says() -> None:
    _, after = decide(AutoscalingSettings(), 2, [load_of(0.5, late=30.0)] * 2, history(2.0), 10.0)
    assert after is not None
    assert after.needs[-1].replicas == pytest.approx(1.0 + 60 / 15)


def test_it_goes_up_when_two_intervals_agree_and_by_as_much_as_it_takes() -> None:
    assert decided(2, [load_of(1.0, backlog=100.0)] * 2, history(2.0)) == 2
    assert decided(2, [load_of(1.0, backlog=100.0)] * 2, history(9.0)) == 8, "the lesser of the two, within tolerance"


def test_it_goes_down_only_to_what_the_whole_window_needed() -> None:
    assert decided(9, [load_of(0.0)], history(2.0, 5.0, 3.0)) == 6
    assert decided(9, [load_of(0.0)], history(2.0, 8.5, 3.0)) == 9


def test_the_last_replica_goes_when_all_have_been_idle_for_long_enough() -> None:
    assert decided(1, [load_of(idle=300.0)], history(0.0, 0.0)) == 0
    assert decided(1, [load_of(idle=299.0)], history(0.0, 0.0)) == 1
    assert decided(1, [load_of(idle=300.0), load_of(idle=2.0)], history(0.0, 0.0)) == 1, "one is still leaving"
    assert decided(2, [load_of(idle=300.0)] * 2, history(2.0)) == 2, "one after the other"
    assert decided(0, [load_of(1.0)], history(1.0)) == 0, "only a request brings it back"


@given(
    needs=st.lists(st.floats(0, 50), min_size=1, max_size=6),
    loads=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 100)), min_size=1, max_size=8),
    replicas=st.integers(1, 20),
    more=st.floats(0, 1),
)
def test_more_load_never_means_fewer_replicas(
    needs: list[float], loads: list[tuple[float, float]], replicas: int, more: float
) -> None:
    def decision(extra: float) -> int:
        reports = [load_of(load + extra, backlog=backlog) for load, backlog in loads]
        return decided(replicas, reports, history(*needs))

    assert 1 <= decision(0.0) <= decision(more)


def test_reports_that_are_too_old_count_for_nothing() -> None:
    def report(time: float, load: float) -> dict[str, list[Point]]:
        names = ("backlog_seconds", "queue_delay_seconds", "batch_seconds", "idle_seconds")
        return {name: [Point(time, 1.0)] for name in names} | {
            "load": [Point(time - 0.25, load), Point(time, load + 0.2)]
        }

    reports = {"fresh": report(99.0, 0.4), "hanging": report(94.0, 0.8)}
    metrics = {name: {replica: reports[replica][name] for replica in reports} for name in reports["fresh"]}
    (load,) = read_loads(metrics, 100.0, 0.5)
    assert load.load == pytest.approx(0.5)
    assert load == ReplicaLoad(99.0, load.load, 1.0, 0.0, 1.0)


def test_replicas_that_are_always_busy_with_small_batches_do_not_multiply() -> None:
    """With a fixed cost for each batch, more replicas only make batches smaller: all of them are busy all the time."""
    random, clock, past, replicas = np.random.default_rng(0), Clock(), None, 1
    meters: list[LoadMeter] = []
    for _ in range(600):
        meters += [LoadMeter(256, clock) for _ in range(replicas - len(meters))]
        begin, loads = clock.now, []
        for meter in meters:
            # All of them in the same half second.
            clock.now = begin
            while clock.now < begin + 0.5:
                began = meter.begin("gateway", queue_depth=0, queue_delay=0.01)
                clock.now += 0.02
                meter.end("gateway", began, size=int(random.integers(1, 2 + 32 // len(meters))))
            report = meter.report()
            assert report.busy_share == pytest.approx(1.0, abs=0.05)
            loads.append(ReplicaLoad(clock.now, report.load, report.backlog_seconds, 0.0, report.idle_seconds))
        replicas, past = decide(AutoscalingSettings(), replicas, loads, past, clock.now)
        assert replicas <= 2


# --------------------------------------------------------------------------------------------- simulated curves


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("demand", [2.0, 5.0, 20.0])
def test_a_step_is_noticed_within_two_seconds_and_met_without_much_ado(demand: float, seed: int) -> None:
    begin, end = 90.0, 900.0
    curve = np.concatenate([constant(0.5, begin), constant(demand, end - begin), constant(0.5, 300)])
    run = simulate(config(), curve, start_seconds=START, seed=seed)
    after = run.time >= begin
    assert run.changes(end=begin) == 0
    assert run.when(after & (run.target > 1)) - begin <= 2.0, "first decision"
    assert run.when(after & (run.target >= 0.75 * needed(demand))) - begin <= 3.0, "straight to about what is needed"
    assert run.when(after & (run.running >= needed(demand))) - begin <= 2 * START + 5, "settling time"
    assert run.target.max() <= np.ceil(1.4 * demand / TARGET), "overshoot"
    settled = begin + 2 * START + 2 * LOOK_BACK
    assert run.changes(settled, end) == 0
    assert demand / TARGET / 1.1 <= run.target[steps(end) - 1] <= demand / TARGET * 1.1 + 1
    assert run.when((run.time >= end) & (run.target == 1)) - end <= LOOK_BACK + 3, "back to the fewest"
    assert run.when((run.time >= end) & (run.target < run.target[steps(end) - 1])) - end >= LOOK_BACK - 3, "slowly"


def test_a_ramp_is_followed_before_anything_waits() -> None:
    curve = np.concatenate([np.linspace(0.5, 8, steps(1200)), np.linspace(8, 0.5, steps(1200))])
    run = simulate(config(), curve, start_seconds=START)
    assert run.backlog.max() == 0
    up, down = run.target[: steps(1200)], run.target[steps(1200) :]
    assert np.all(np.diff(up) >= 0)
    assert np.all(np.diff(down) <= 0)
    assert run.target.max() <= 8 / TARGET * 1.1 + 1


def test_a_spike_is_met_and_left_behind() -> None:
    curve = constant(1.5, 900)
    curve[steps(300) : steps(310)] = 12.0
    run = simulate(config(max_replicas=10), curve, at_start=3, start_seconds=START)
    assert run.changes(end=300) == 0
    assert run.when(run.target == 10) - 300 <= 3.0
    assert run.when((run.time > 300) & (run.backlog == 0) & (run.running == 10)) <= 340
    assert run.when((run.time > 310) & (run.target == 3)) <= 310 + 2 * LOOK_BACK
    assert run.changes(310 + 2 * LOOK_BACK) == 0


def test_hours_of_tides_are_followed_without_anything_waiting() -> None:
    hours, period = 2, 3600.0
    time = np.arange(steps(hours * 3600)) * STEP
    run = simulate(config(), 3 - 2 * np.cos(2 * np.pi * time / period), start_seconds=START, at_start=2)
    assert run.backlog.max() == 0
    low, high = needed(1.0), int(np.ceil(5 / TARGET * 1.1))
    assert run.target.min() >= low
    assert run.target.max() <= high
    assert run.changes() <= hours * 2 * (high - low), "once up and once down in each period"
    used = float((run.demand / run.target).mean())
    assert used >= 0.55, "slow to go down, but not wasteful"


@pytest.mark.parametrize("demand", [0.35, 0.7, 2.1, 3.3])
@pytest.mark.parametrize("noise", [0.05, 0.2])
def test_a_steady_load_never_makes_it_oscillate_however_noisy_it_is(demand: float, noise: float) -> None:
    random = np.random.default_rng(1)
    seconds = 1800
    # It comes in gusts of half a second, as long as a report.
    gusts = np.repeat(random.uniform(1 - 2 * noise, 1 + 2 * noise, seconds * 2), steps(0.5))
    run = simulate(config(), demand * gusts, start_seconds=START)
    assert run.changes(start=600) == 0
    assert needed(demand) <= run.target[-1] <= demand * (1 + 2 * noise) / TARGET * 1.1 + 1


def test_saturation_is_noticed_also_where_callers_do_not_wait_in_line() -> None:
    """Callers that give up at once, or wait for one answer before they ask again, let no queue grow."""
    run = simulate(config(max_replicas=10), constant(20.0, 300), start_seconds=START, longest_wait=0.05)
    assert run.when(run.target > 1) <= 2.0
    assert run.when(run.running == 10) <= 8 * START, "by the head room, again and again, as replicas come"


def test_poisson_arrivals_never_make_it_oscillate() -> None:
    arrivals = np.random.default_rng(2).poisson(30, steps(3600)) / 15
    run = simulate(config(), arrivals, start_seconds=START)
    # Once in a long while two half seconds in a row bring so much that one more is started; it is not taken back.
    assert run.changes(start=60) <= 2
    assert np.all(np.diff(run.target[steps(60) :]) >= 0)
    assert run.target[-1] in (needed(2.0), needed(2.0) + 1)


def test_it_goes_to_zero_once_it_has_been_idle_and_not_before() -> None:
    run = simulate(config(0, 5), np.concatenate([constant(0.3, 60), constant(0.0, 400)]))
    assert np.all(run.target[: steps(359)] == 1)
    assert run.when(run.target == 0) == pytest.approx(360, abs=2)
    assert np.all(run.target[steps(362) :] == 0)


def test_it_keeps_the_fewest_when_idle() -> None:
    run = simulate(config(2, 5), np.concatenate([constant(3.0, 60), constant(0.0, 600)]), at_start=2)
    assert run.target[-1] == 2
    assert run.target.min() == 2


@settings(max_examples=15, deadline=None)
@given(
    levels=st.lists(st.floats(0, 30), min_size=1, max_size=12),
    bounds=st.tuples(st.integers(0, 6), st.integers(1, 12)).filter(lambda bounds: bounds[0] <= bounds[1]),
    start_seconds=st.floats(0.1, 60),
    seed=st.integers(0, 1000),
)
def test_it_stays_within_its_bounds_and_settles_whatever_comes(
    levels: list[float], bounds: tuple[int, int], start_seconds: float, seed: int
) -> None:
    fewest, most = bounds
    curve = np.concatenate([constant(level, 20) for level in levels] + [constant(levels[-1], 400)])
    run = simulate(
        config(fewest, most), curve, start_seconds=start_seconds, at_start=max(1, fewest), seed=seed, longest_wait=5.0
    )
    assert run.target.min() >= fewest
    assert run.target.max() <= most
    assert run.changes(start=run.time[-1] - 100) <= 1, "settled, or just about to go to zero"


def test_lost_replicas_are_replaced_and_not_given_up() -> None:
    def lose_two(step: int, replicas: list[SimulatedReplica]) -> None:
        if step == steps(300):
            del replicas[:2]

    run = simulate(config(), constant(3.0, 900), at_start=5, start_seconds=START, disturb=lose_two)
    before = run.target[steps(299)]
    assert before == 5
    assert run.target[steps(300) :].min() >= before
    assert run.target.max() <= 8
    recovered = (run.time > 300) & (run.running >= before) & (run.backlog == 0)
    assert run.when(recovered) <= 300 + 3 * START + 15
    assert run.target[-1] == before
