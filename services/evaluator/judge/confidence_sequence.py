"""Confidence sequences: intervals of a mean that hold at all times at once, for numbers that have bounds.

The predictable plug-in empirical-Bernstein sequence (Waudby-Smith and Ramdas, "Estimating means of bounded random
variables by betting", JRSS-B 2023, theorem 2; after Howard et al., "Time-uniform, nonparametric, nonasymptotic
confidence sequences", Annals of Statistics 2021). It needs no normal mean: what has not been seen yet is within the
bounds, too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]

_LARGEST_BET = 0.5


def empirical_bernstein(
    values: Sequence[float] | Numbers, low: float, high: float, rate: float
) -> tuple[Numbers, Numbers]:
    """Gives the interval of the mean after each number.

    Args:
        values: Independent numbers with the same mean, all within the bounds, in the order in which they came.
        low: Lower bound.
        high: Upper bound, above it.
        rate: Probability that the mean is outside of any of the intervals.

    Returns:
        Lower ends, never falling, and upper ends, never rising. Should they cross, which happens with at most that
        probability, the interval is empty.
    """
    numbers = (np.asarray(values, np.float64) - low) / (high - low)
    count = np.arange(1, numbers.size + 1)
    means = (0.5 + np.cumsum(numbers)) / (count + 1)
    variances = (0.25 + np.cumsum((numbers - means) ** 2)) / (count + 1)
    # What is bet on a number must be known before it: means and variances are those of the numbers before.
    means_before = np.concatenate([[0.5], means[:-1]])
    variances_before = np.concatenate([[0.25], variances[:-1]])
    surprise = np.log(2 / rate)
    bets = np.minimum(np.sqrt(2 * surprise / (variances_before * count * np.log1p(count))), _LARGEST_BET)
    spread = (numbers - means_before) ** 2 * (-np.log1p(-bets) - bets)
    staked = np.cumsum(bets)
    centre = np.cumsum(bets * numbers) / staked
    half = (surprise + np.cumsum(spread)) / staked
    lows = np.maximum.accumulate(np.clip(centre - half, 0.0, 1.0))
    highs = np.minimum.accumulate(np.clip(centre + half, 0.0, 1.0))
    return low + lows * (high - low), low + highs * (high - low)
