from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman.cli.sparkline import sparkline

NUMBERS = st.floats(-1e6, 1e6)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([], ""), ([3.0, 3.0], "▁▁"), ([0.0, 7.0], "▁█"), ([0, 1, 2, 3, 4, 5, 6, 7], "▁▂▃▄▅▆▇█")],
)
def test_sparkline(values: list[float], expected: str) -> None:
    assert sparkline(values) == expected


@given(st.lists(NUMBERS, min_size=1, max_size=300), st.integers(1, 80))
def test_a_sparkline_is_never_wider_than_it_may_be(values: list[float], width: int) -> None:
    assert len(sparkline(values, width)) == min(width, len(values))


def test_bars_may_stand_on_a_floor() -> None:
    assert sparkline([5.0, 10.0], floor=0.0) == "▅█"
