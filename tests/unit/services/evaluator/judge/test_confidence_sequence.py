from collections.abc import Callable

import numpy as np
import pytest

from services.evaluator.judge.confidence_sequence import Numbers, empirical_bernstein

_PAIRS = 640
_RUNS = 1000

Draw = Callable[[np.random.Generator, int], Numbers]


def rare_loss(loss: float, often: float) -> Draw:
    """Gives +1, but for a loss that makes the mean 0."""
    return lambda random, count: np.where(random.random(count) < often, -loss, 1.0)


@pytest.mark.parametrize(
    ("draw", "low", "high"),
    [
        (rare_loss(99.0, 0.01), -99.0, 1.0),
        (rare_loss(19.0, 0.05), -500.0, 500.0),
        (lambda random, count: random.choice([-1.0, 1.0], count), -1.0, 1.0),
        (lambda random, count: random.beta(0.3, 0.9, count) - 0.25, -0.25, 0.75),
    ],
    ids=["losses of 99 in 1%", "losses of 19 in 5%", "two values", "skewed"],
)
def test_the_error_rate_is_kept_however_often_one_looks(draw: Draw, low: float, high: float) -> None:
    """The mean is 0, and one looks after each number."""
    random = np.random.default_rng(1)
    wrong = 0
    for _ in range(_RUNS):
        lows, highs = empirical_bernstein(draw(random, _PAIRS), low, high, 0.05)
        wrong += bool((lows > 1e-9).any() or (highs < -1e-9).any())
    assert wrong <= 0.05 * _RUNS


def test_the_mean_is_told_in_the_end() -> None:
    random = np.random.default_rng(2)
    values = np.clip(random.normal(30.0, 100.0, 3000), -500.0, 500.0)
    lows, highs = empirical_bernstein(values, -500.0, 500.0, 0.05)
    assert lows[0] == -500.0 or lows[0] < 0
    assert 20 < np.argmax(lows > 0) < 1000
    assert lows[-1] < 30.0 < highs[-1]
    assert highs[-1] - lows[-1] < 40


def test_intervals_only_narrow_and_stay_within_the_bounds() -> None:
    values = np.random.default_rng(3).uniform(2.0, 4.0, 500)
    lows, highs = empirical_bernstein(values, 0.0, 5.0, 0.05)
    assert (np.diff(lows) >= 0).all()
    assert (np.diff(highs) <= 0).all()
    assert lows.min() >= 0.0
    assert highs.max() <= 5.0


def test_what_is_bet_does_not_know_what_comes() -> None:
    """The intervals before a number are the same whatever it is."""
    values = np.random.default_rng(4).uniform(0.0, 1.0, 100)
    other = np.concatenate([values[:50], 1.0 - values[50:]])
    for ours, theirs in zip(
        empirical_bernstein(values, 0.0, 1.0, 0.05), empirical_bernstein(other, 0.0, 1.0, 0.05), strict=True
    ):
        assert np.array_equal(ours[:50], theirs[:50])
        assert not np.array_equal(ours, theirs)
