from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.shapes import NAMES, Knee, Level, Levels, Shape, Sine, ladder, named_shape, soak, spike
from steersman.errors import InvalidArgumentError


def users(shape: Shape, times: range) -> list[int | None]:
    levels = [shape.level_at(time) for time in times]
    return [None if level is None else level.users for level in levels]


def test_a_ladder_doubles_holds_and_rests() -> None:
    shape = ladder(6, step_seconds=10, plateau_seconds=30, rest_seconds=20)
    assert [(level.users, level.seconds, level.phase) for level in shape.levels] == [
        (1, 10, "ladder"),
        (2, 10, "ladder"),
        (4, 10, "ladder"),
        (6, 30, "plateau"),
        (1, 20, "rest"),
    ]
    assert users(shape, range(0, 90, 10)) == [1, 2, 4, 6, 6, 6, 1, 1, None]


def test_a_ladder_to_one_is_a_plateau() -> None:
    assert [level.phase for level in ladder(1, 10).levels] == ["plateau"]


@given(most=st.integers(1, 500), step=st.floats(0.1, 60))
def test_a_ladder_only_rises_and_reaches_the_most(most: int, step: float) -> None:
    found = [level.users for level in ladder(most, step).levels]
    assert found == sorted(set(found))
    assert found[-1] == most


def test_a_spike_comes_and_goes() -> None:
    assert users(spike(2, 50, 10, 5), range(0, 30, 5)) == [2, 2, 50, 2, 2, None]


def test_a_day_is_quiet_at_both_ends_and_busy_at_noon() -> None:
    day = Sine(few=2, many=20, period=100, days=2)
    assert users(day, range(0, 250, 50)) == [2, 20, 2, 20, None]


@given(time=st.floats(0, 199.9))
def test_a_day_stays_between_its_limits(time: float) -> None:
    level = Sine(few=2, many=20, period=100, days=2).level_at(time)
    assert level is not None
    assert 2 <= level.users <= 20


def test_a_soak_is_steady() -> None:
    assert users(soak(7, 60), range(0, 61, 30)) == [7, 7, None]


@given(capacity=st.integers(0, 300))
def test_a_knee_is_found(capacity: int) -> None:
    asked: list[Level] = []

    def holds(level: Level) -> bool:
        asked.append(level)
        return level.users <= capacity

    knee = Knee(4, 10.0, holds)
    time = 0.0
    while knee.level_at(time) is not None:
        time += 1.0
    assert knee.capacity <= capacity
    assert knee.capacity == max((level.users for level in asked if level.users <= capacity), default=0)
    assert asked[-1].users > capacity
    assert knee.level_at(time + 100) is None, "once it is over, it stays over"


def test_a_knee_that_never_breaks_ends_at_the_most() -> None:
    knee = Knee(4, 1.0, lambda _: True, most=100)
    assert knee.level_at(1000.0) is None
    assert knee.capacity <= 100


@pytest.mark.parametrize("time", [0.0, 9.99])
def test_levels_begin_at_once(time: float) -> None:
    assert Levels([Level(3, 10, "x")]).level_at(time) == Level(3, 10, "x")


@given(name=st.sampled_from(NAMES), most=st.integers(1, 300), seconds=st.floats(1, 10_000))
def test_named_shapes_last_as_long_as_was_asked_for(name: str, most: int, seconds: float) -> None:
    shape = named_shape(name, most, seconds)
    levels = [shape.level_at(seconds * part / 100) for part in range(99)]
    assert all(level is not None and 1 <= level.users <= most for level in levels)
    assert shape.level_at(seconds * 1.001) is None


def test_a_shape_that_there_is_not() -> None:
    with pytest.raises(InvalidArgumentError, match="'square'"):
        named_shape("square", 1, 1.0)
