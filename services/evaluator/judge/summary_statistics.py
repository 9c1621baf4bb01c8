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
        standard_deviation: With n - 1; 0 for one return.
        percentile_5: A twentieth of them are smaller.
    """

    mean: float
    median: float
    interquartile_mean: float
    interval: tuple[float, float]
    minimum: float
    standard_deviation: float
    percentile_5: float


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
        standard_deviation=float(values.std(ddof=1)) if values.size > 1 else 0.0,
        percentile_5=float(np.percentile(values, 5)),
    )


def mean_interval(returns: Sequence[float], confidence: float = _CONFIDENCE) -> tuple[float, float]:
    """Gives the bootstrap interval of the mean (BCa: Efron, "Better bootstrap confidence intervals", JASA 1987).

    Args:
        returns: At least one. One alone, or returns that are all equal, have an interval without width: there is
            nothing to resample.
        confidence: How often such an interval holds the true mean.
    """
    values = np.asarray(returns, np.float64)
    if values.size < 2 or (values == values[0]).all():
        return float(values[0]), float(values[0])
    low, high = _bootstrap(values, confidence, "BCa" if values.size <= _BCA_RETURNS else "percentile")
    if math.isnan(low) or math.isnan(high):
        # BCa's correction for skewness divides by zero where the returns hardly differ.
        low, high = _bootstrap(values, confidence, "percentile")
    return low, high


def _bootstrap(
    values: npt.NDArray[np.float64], confidence: float, method: Literal["BCa", "percentile"]
) -> tuple[float, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        interval = stats.bootstrap(
            (values,),
            np.mean,
            confidence_level=confidence,
            n_resamples=_RESAMPLES,
            method=method,
            rng=np.random.default_rng(_SEED),
            # Else all resamples would be in memory at once, for many episodes.
            batch=max(1, _BATCH_NUMBERS // values.size),
        ).confidence_interval
    return float(interval.low), float(interval.high)


def interquartile_mean_interval(returns: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Gives the bootstrap 95% interval of the interquartile mean, stratified over environments.

    Each environment's returns are resampled among themselves (Agarwal et al., see `Summary`).

    Args:
        returns: Of each environment; at least one of each.
    """
    interval = stats.bootstrap(
        [np.asarray(values, np.float64) for values in returns],
        lambda *groups, axis: stats.trim_mean(np.concatenate(groups, axis=axis), 0.25, axis=axis),
        confidence_level=_CONFIDENCE,
        n_resamples=_RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(_SEED),
        batch=max(1, _BATCH_NUMBERS // sum(len(values) for values in returns)),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def probability_of_improvement(returns: Sequence[float], others: Sequence[float]) -> float:
    """Gives the probability that one return is higher than another one's; ties count half (Mann and Whitney's U).

    Args:
        returns: At least one.
        others: At least one.
    """
    ranks = stats.rankdata(np.concatenate([returns, others]))[: len(returns)]
    above = float(ranks.sum()) - len(returns) * (len(returns) + 1) / 2
    return above / (len(returns) * len(others))


def performance_profile(returns: Sequence[float], thresholds: Sequence[float]) -> list[float]:
    """Gives for each threshold the part of the returns that is above it (Agarwal et al., see `Summary`)."""
    ordered = np.sort(np.asarray(returns, np.float64))
    above = ordered.size - np.searchsorted(ordered, np.asarray(thresholds), side="right")
    return [float(part) for part in above / ordered.size]


def percentiles(seconds: Sequence[float], *wanted: float) -> tuple[float, ...]:
    """Gives percentiles of durations, in milliseconds.

    Args:
        seconds: Durations; percentiles of none are 0.
        *wanted: Which ones, such as 50 and 99.
    """
    if not len(seconds):
        return (0.0,) * len(wanted)
    return tuple(float(value) for value in np.percentile(np.asarray(seconds), wanted) * 1000)
