"""Statistics are those of rliable (Agarwal et al., "Deep reinforcement learning at the edge of the statistical
precipice", NeurIPS 2021) on the same data; intervals within the error of two independent bootstraps."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from services.evaluator.judge.summary_statistics import (
    interquartile_mean_interval,
    mean_interval,
    performance_profile,
    probability_of_improvement,
    summarise,
)
from tests.rliable import library, metrics

_RESAMPLES = 10_000
# The end of a 95% interval from B resamples is off by sqrt(p (1 - p) / B) over the density there: for a nearly normal
# bootstrap, 0.027 of its standard deviation, which is 1/3.92 of the interval's width. Two of them differ by sqrt(2) of
# that; this is four times as much.
_BOUND = 4 * 2**0.5 * 0.027 / 3.92


def scores(seed: int, runs: int = 40, tasks: int = 3) -> npt.NDArray[np.float64]:
    """Draws returns as environments have them: many at the limit, and a tail. Shape [runs, tasks]."""
    random = np.random.default_rng(seed)
    drawn = np.minimum(500.0, random.gamma(4.0, 100.0, (runs, tasks)))
    return drawn * np.arange(1, tasks + 1) / tasks


def assert_same_interval(ours: tuple[float, float], theirs: npt.NDArray[np.float64]) -> None:
    width = theirs[1] - theirs[0]
    assert ours == pytest.approx(tuple(theirs), abs=_BOUND * width)


@pytest.mark.parametrize("seed", range(5))
def test_the_interquartile_mean_and_its_stratified_interval(seed: int) -> None:
    values = scores(seed)
    assert summarise(values.ravel().tolist()).interquartile_mean == pytest.approx(metrics.aggregate_iqm(values))
    np.random.seed(seed)  # rliable draws from NumPy's own generator
    _, intervals = library.get_interval_estimates(
        {"policy": values}, lambda drawn: np.array([metrics.aggregate_iqm(drawn)]), reps=_RESAMPLES
    )
    assert_same_interval(interquartile_mean_interval(values.T.tolist()), intervals["policy"][:, 0])


@pytest.mark.parametrize("seed", range(5))
def test_the_mean_and_its_interval(seed: int) -> None:
    values = scores(seed, tasks=1)
    assert summarise(values[:, 0].tolist()).mean == pytest.approx(metrics.aggregate_mean(values))
    np.random.seed(seed)
    _, intervals = library.get_interval_estimates(
        {"policy": values}, lambda drawn: np.array([metrics.aggregate_mean(drawn)]), method="bca", reps=_RESAMPLES
    )
    assert_same_interval(mean_interval(values[:, 0].tolist()), intervals["policy"][:, 0])


@pytest.mark.parametrize("seed", range(5))
def test_the_performance_profile(seed: int) -> None:
    values = scores(seed)
    thresholds = [0.0, 50.0, 166.0, 300.0, 499.9, 500.0]
    profiles, _ = library.create_performance_profile({"policy": values}, np.array(thresholds), reps=10)
    assert performance_profile(values.ravel().tolist(), thresholds) == pytest.approx(profiles["policy"].tolist())


@pytest.mark.parametrize("seed", range(5))
def test_the_probability_of_improvement(seed: int) -> None:
    """There are ties: returns at the limit."""
    ours, theirs = scores(seed, tasks=1), scores(seed + 100, runs=30, tasks=1)
    expected = metrics.probability_of_improvement(ours, theirs)
    assert probability_of_improvement(ours[:, 0].tolist(), theirs[:, 0].tolist()) == pytest.approx(expected)
