import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.evaluator.statistics import mean_interval, percentiles, summarise

returns = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40)


@given(returns)
@settings(deadline=None, max_examples=30)
def test_a_summary_lies_within_the_returns(values: list[float]) -> None:
    summary = summarise(values)
    low, high = min(values), max(values)
    slack = 1e-9 * max(1.0, abs(low), abs(high))
    for number in (summary.mean, summary.median, summary.interquartile_mean, *summary.interval):
        assert low - slack <= number <= high + slack
    assert summary.minimum == low
    assert summary.interval[0] <= summary.interval[1]


@given(returns)
@settings(deadline=None, max_examples=10)
def test_the_same_returns_give_the_same_summary(values: list[float]) -> None:
    assert summarise(values) == summarise(values)


def test_the_interquartile_mean_is_the_mean_of_the_middle_half() -> None:
    assert summarise([1000.0, 1.0, 2.0, 3.0, 4.0, -1000.0, 5.0, 6.0]).interquartile_mean == np.mean([2, 3, 4, 5])


@pytest.mark.parametrize("values", [[7.0], [7.0, 7.0, 7.0]])
def test_returns_that_do_not_differ_have_an_interval_without_width(values: list[float]) -> None:
    assert mean_interval(values) == (7.0, 7.0)


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        low, high = mean_interval(random.normal(10.0, 3.0, size=30).tolist())
        covered += low <= 10.0 <= high
    # 95% of 200 is 190; the bounds are four standard deviations away.
    assert 176 <= covered <= 200


def test_an_interval_is_a_number_even_where_only_one_return_differs() -> None:
    low, high = mean_interval([500.0] * 19 + [499.0])
    assert not math.isnan(low)
    assert 499.0 <= low <= high <= 500.0


def test_many_returns_are_summarised_in_seconds() -> None:
    """With the correction for skewness, a hundred thousand would take minutes."""
    values = np.random.default_rng(0).normal(10.0, 3.0, size=20_000)
    low, high = mean_interval(values.tolist())
    half = 1.96 * values.std() / math.sqrt(values.size)
    assert low == pytest.approx(values.mean() - half, abs=half / 10)
    assert high == pytest.approx(values.mean() + half, abs=half / 10)


def test_percentiles_are_in_milliseconds() -> None:
    assert percentiles([0.001] * 100) == pytest.approx((1.0, 1.0))
