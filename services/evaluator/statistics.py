"""Statistics of returns and latencies."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

_CONFIDENCE = 0.95
_RESAMPLES = 10_000
_SEED = 0
_BCA_RETURNS = 10_000
"""Up to so many returns the interval is corrected for bias and skewness. What that changes shrinks with the number of
returns (with one over it), and what it costs grows with its square."""
_BATCH_NUMBERS = 1_000_000


@dataclass(frozen=True)
class Summary:
    """What is said of a number of returns.

    Attributes:
        mean: Their mean.
        median: Their median.
        interquartile_mean: The mean of the middle half (Agarwal et al., "Deep reinforcement learning at the edge of the
            statistical precipice", NeurIPS 2021): `scipy.stats.trim_mean` with a quarter cut off at either end.
        interval: Bootstrap 95% interval of the mean, over episodes.
        minimum: The smallest.
    """

    mean: float
    median: float
    interquartile_mean: float
    interval: tuple[float, float]
    minimum: float


def summarise(returns: Sequence[float]) -> Summary:
    """Summarises returns; the same returns always give the same summary.

    Args:
        returns: At least one.
    """
    values = np.asarray(returns, np.float64)
    return Summary(
        mean=float(values.mean()),
        median=float(np.median(values)),
        interquartile_mean=float(stats.trim_mean(values, 0.25)),
        interval=mean_interval(values.tolist()),
        minimum=float(values.min()),
    )


def mean_interval(returns: Sequence[float]) -> tuple[float, float]:
    """Gives the bootstrap 95% interval of the mean (BCa: Efron, "Better bootstrap confidence intervals", JASA 1987).

    Args:
        returns: At least one. One alone, or returns that are all equal, have an interval without width: there is
            nothing to resample.
    """
    values = np.asarray(returns, np.float64)
    if values.size < 2 or (values == values[0]).all():
        return float(values[0]), float(values[0])
    low, high = _bootstrap(values, "BCa" if values.size <= _BCA_RETURNS else "percentile")
    if math.isnan(low) or math.isnan(high):
        # BCa's correction for skewness divides by zero where the returns hardly differ.
        low, high = _bootstrap(values, "percentile")
    return low, high


def _bootstrap(values: npt.NDArray[np.float64], method: Literal["BCa", "percentile"]) -> tuple[float, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        interval = stats.bootstrap(
            (values,),
            np.mean,
            confidence_level=_CONFIDENCE,
            n_resamples=_RESAMPLES,
            method=method,
            rng=np.random.default_rng(_SEED),
            # Else all resamples would be in memory at once, for many episodes.
            batch=max(1, _BATCH_NUMBERS // values.size),
        ).confidence_interval
    return float(interval.low), float(interval.high)


def percentiles(seconds: Sequence[float]) -> tuple[float, float]:
    """Gives the median and the 99th percentile of durations, in milliseconds.

    Args:
        seconds: At least one.
    """
    median, high = np.percentile(np.asarray(seconds), [50, 99]) * 1000
    return float(median), float(high)
