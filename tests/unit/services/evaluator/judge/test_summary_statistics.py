import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.evaluator.judge.summary_statistics import (
    interquartile_mean_interval,
    mean_interval,
    percentiles,
    performance_profile,
    probability_of_improvement,
    summarise,
)

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
    assert percentiles([0.001] * 100, 50, 99) == pytest.approx((1.0, 1.0))


def test_percentiles_of_nothing_are_zero() -> None:
    assert percentiles([], 50, 99) == (0.0, 0.0)


def test_the_probability_of_improvement_counts_pairs_and_half_of_the_ties() -> None:
    policy, other = [1.0, 2.0, 2.0, 5.0], [2.0, 0.0, 2.0]
    pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a in policy for b in other]
    assert probability_of_improvement(policy, other) == pytest.approx(sum(pairs) / len(pairs))
    assert probability_of_improvement(other, policy) == pytest.approx(1 - sum(pairs) / len(pairs))


def test_a_performance_profile_is_the_part_above() -> None:
    assert performance_profile([1.0, 2.0, 2.0, 4.0], [0.0, 1.0, 2.0, 4.0]) == [1.0, 0.75, 0.25, 0.0]


def test_the_stratified_interval_resamples_each_environment_by_itself() -> None:
    """Environments that are far apart, but sure in themselves, leave the interval narrow."""
    low, high = interquartile_mean_interval([[1.0] * 10, [101.0] * 10])
    assert low == high == 51.0
    low, high = interquartile_mean_interval([[1.0] * 10 + [101.0] * 10])
    assert low < 45 < 57 < high
