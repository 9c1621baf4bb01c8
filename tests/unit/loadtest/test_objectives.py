from __future__ import annotations

from pathlib import Path

import pytest

from loadtest.objectives import (
    FILE,
    generator_bound,
    judge,
    memory_slopes,
    oscillations,
    read_objectives,
    scale_down,
    served_share,
    slowest_scale_up,
)
from loadtest.scenarios import SCENARIOS
from loadtest.timeline import Generator, Served, Stretch, Timeline
from steersman.errors import InvalidArgumentError


def served(time: float, wanted: int, ready: int, waiting: int = 0) -> Served:
    return Served(time, wanted, ready, 0, 0, waiting, None, 0.0)


def good_timeline() -> Timeline:
    """A load that needs a second replica from 20 s on, and gets it at 26."""
    timeline = Timeline(is_paced=True)
    timeline.stretches = [Stretch(1, "ladder", 0, 20), Stretch(2, "plateau", 20, 60), Stretch(1, "rest", 60, 100)]
    for second in range(100):
        rate = 20 if 20 <= second < 60 else 10
        for _ in range(rate):
            timeline.add(second + 0.5, "robot", 0.010, 1, "")
        ready = 2 if 26 <= second < 85 else 1
        wanted = 2 if 22 <= second < 84 else 1
        timeline.served.append(served(second, wanted, ready, waiting=5 if 20 <= second < 26 else 0))
        timeline.generator.append(Generator(second, 0.3, 0.001))
    return timeline


OBJECTIVES = {
    "error_rate": 0.0,
    "p99_milliseconds": 50.0,
    "replicas_at_least": 2.0,
    "scale_up_seconds": 15.0,
    "scale_down_seconds": 60.0,
    "oscillations": 0.0,
    "served_share": 0.99,
    "longest_gap_seconds": 10.0,
}


def test_what_is_good_holds() -> None:
    verdicts = judge(OBJECTIVES, good_timeline())
    assert all(verdict.holds for verdict in verdicts), verdicts
    measured = {verdict.name: verdict.measured for verdict in verdicts}
    assert measured["scale_up_seconds"] == 6.0
    assert measured["scale_down_seconds"] == 25.0
    assert measured["p99_milliseconds of robot"] == pytest.approx(10.0)


def missed(timeline: Timeline) -> set[str]:
    return {verdict.name.partition(" ")[0] for verdict in judge(OBJECTIVES, timeline) if not verdict.holds}


def test_misses_while_replicas_of_a_plateau_start_do_not_count() -> None:
    timeline = good_timeline()
    timeline.missed[25] += 1000
    assert missed(timeline) == set()


def test_further_replicas_of_a_level_count_from_when_they_were_wanted() -> None:
    timeline = good_timeline()
    for second in range(40, 60):
        timeline.served[second] = served(second, 3, 3 if second >= 48 else 2)
    assert slowest_scale_up(timeline) == 8.0


def test_one_failure_is_one_too_many() -> None:
    timeline = good_timeline()
    timeline.add(50.5, "robot", 0.0, 1, "UNAVAILABLE: gone")
    assert missed(timeline) == {"error_rate"}


def test_slow_answers_on_the_plateau_are_seen_and_those_before_are_not() -> None:
    timeline = good_timeline()
    for _ in range(10):
        timeline.add(22.5, "robot", 3.0, 1, "")
    assert missed(timeline) == set()
    for _ in range(10):
        timeline.add(50.5, "robot", 3.0, 1, "")
    assert missed(timeline) == {"p99_milliseconds"}


def test_a_step_down_on_the_plateau_is_an_oscillation() -> None:
    timeline = good_timeline()
    timeline.served[50] = served(50, 1, 2)
    assert oscillations(timeline) == 1
    assert missed(timeline) == {"oscillations"}


def test_replicas_that_stay_are_not_given_back() -> None:
    timeline = good_timeline()
    timeline.served = [entry if entry.time < 60 else served(entry.time, 2, 2) for entry in timeline.served]
    assert scale_down(timeline) is None
    assert missed(timeline) == {"scale_down_seconds"}


def test_what_was_offered_and_not_served_is_missed() -> None:
    timeline = good_timeline()
    for second in range(40, 60):
        timeline.missed[second] += 1
    assert served_share(timeline, timeline.stretches[1]) == pytest.approx(20 / 21)
    assert missed(timeline) == {"served_share"}


def test_levels_of_a_generator_at_its_limit_do_not_count() -> None:
    timeline = good_timeline()
    timeline.missed[50] += 1000
    timeline.generator = [
        Generator(entry.time, 0.99 if 20 <= entry.time < 60 else 0.3, 0.0) for entry in timeline.generator
    ]
    assert [generator_bound(timeline, stretch) for stretch in timeline.stretches] == [False, True, False]
    assert missed(timeline) == set()


def test_nothing_at_all_holds_nothing() -> None:
    assert missed(Timeline()) == {name for name in OBJECTIVES if name != "longest_gap_seconds"}


def test_without_a_new_replica_there_is_no_time_to_it() -> None:
    assert slowest_scale_up(Timeline(served=[served(0, 1, 1), served(1, 1, 1)])) is None


def test_memory_that_grows_is_seen() -> None:
    timeline = good_timeline()
    timeline.memory = {
        "gateway 1": [(time, 80 + 0.1 * time) for time in range(100)],
        "replica 2": [(time, 90.0) for time in range(100)],
        "replica 3": [(time, 90.0 + time) for time in range(90, 100)],
    }
    slopes = memory_slopes(timeline)
    requests = len(timeline.within(100 / 3, 100).latencies)
    assert slopes["gateway 1"] == pytest.approx(0.1 * 200 / 3 / requests * 100_000)
    assert slopes["replica 2"] == pytest.approx(0.0)
    assert "replica 3" not in slopes, "it has not lived long enough to tell"
    verdicts = judge({"megabytes_per_100k_requests": 1.0}, timeline)
    assert [verdict.holds for verdict in verdicts] == [False, True]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_scenario_has_objectives(scenario: str) -> None:
    assert read_objectives(scenario)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[soak]\nmemory = 1", "'memory'"),
        ("[soak]\nerror_rate = 'none'", "'none'"),
        ("[soak", "expected objectives in"),
    ],
)
def test_objectives_that_cannot_be_read(text: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "objectives.toml"
    path.write_text(text)
    with pytest.raises(InvalidArgumentError, match=expected):
        read_objectives("soak", path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="expected objectives in"):
        read_objectives("soak", tmp_path / "none.toml")
    assert FILE.is_file()
