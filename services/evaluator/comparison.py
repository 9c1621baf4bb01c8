"""Which of two policies is better: paired differences, an interval, and what follows from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from statistics import NormalDist

import numpy as np
from scipy import stats

from services.evaluator.statistics import mean_interval, probability_of_improvement

ERROR_RATE = 0.05
FIRST_LOOK = 160
"""Pairs at the first look of a sequential comparison; each further one comes after twice as many.

Student's interval needs a mean that is nearly normal. With a first look after 20 pairs, skewed differences with a mean
of 0 were called up to 38% of the time; docs/evaluation.md has what is left of that.
"""

_POWER = 0.8


class Verdict(Enum):
    """Which one is better."""

    BETTER = "better"
    WORSE = "worse"
    UNCLEAR = "can't tell yet"


@dataclass(frozen=True)
class Comparison:
    """How two policies compare.

    Attributes:
        difference: Mean of the paired differences.
        interval: Of that mean, at the error rate.
        probability: That one return of the policy is higher than one of the baseline's; ties count half.
        verdict: Which one is better.
        more: About how many more pairs would tell with a probability of 80%, if the difference is what it seems; 0
            where it can be told, or nothing says so since there was no difference at all.
    """

    difference: float
    interval: tuple[float, float]
    probability: float
    verdict: Verdict
    more: int


def compare(policy: Sequence[float], baseline: Sequence[float], error_rate: float, look: int = 0) -> Comparison:
    """Compares the returns of two policies, played on the same seeds.

    Args:
        policy: Returns of the one that may be better; at least one.
        baseline: Returns of the other one in the same episodes.
        error_rate: Probability of a verdict where there is no difference.
        look: 0 where this is the only time that one looks; else which look this is, from 1. Look k spends
            error_rate / (k (k + 1)), which over all looks adds up to the error rate, however many there are. As far as
            Student's interval is right, that is: a loss too rare to have been seen is in no interval.
    """
    differences = np.asarray(policy, np.float64) - np.asarray(baseline, np.float64)
    rate = error_rate / (look * (look + 1)) if look else error_rate
    values = differences.tolist()
    interval = _student_interval(values, rate) if look else mean_interval(values, 1 - rate)
    return Comparison(
        difference=float(differences.mean()),
        interval=interval,
        probability=probability_of_improvement(policy, baseline),
        verdict=(verdict := _verdict(interval, differences.size, rate)),
        more=_more(values, rate) if verdict is Verdict.UNCLEAR else 0,
    )


def looks(episodes: int) -> list[int]:
    """Gives after how many pairs a sequential comparison looks at the results.

    Args:
        episodes: The most that may be played; the last look comes then.
    """
    counts = []
    count = FIRST_LOOK
    while count < episodes:
        counts.append(count)
        count *= 2
    return [*counts, episodes]


def _student_interval(differences: Sequence[float], rate: float) -> tuple[float, float]:
    """Gives Student's interval. Unlike a bootstrap's, it has tails that far out with few numbers."""
    mean, count = float(np.mean(differences)), len(differences)
    deviation = float(np.std(differences, ddof=1)) if count > 1 else 0.0
    if not deviation:
        return mean, mean
    half = float(stats.t.ppf(1 - rate / 2, count - 1)) * deviation / math.sqrt(count)
    return mean - half, mean + half


def _verdict(interval: tuple[float, float], count: int, rate: float) -> Verdict:
    # However alike the differences are: without one between the policies, all have the same sign so often.
    if 2.0 ** (1 - count) > rate:
        return Verdict.UNCLEAR
    low, high = interval
    return Verdict.BETTER if low > 0 else Verdict.WORSE if high < 0 else Verdict.UNCLEAR


def _more(differences: Sequence[float], rate: float) -> int:
    mean, count = float(np.mean(differences)), len(differences)
    if not mean:
        return 0
    deviation = float(np.std(differences, ddof=1)) if count > 1 else abs(mean)
    normal = NormalDist()
    wanted = ((normal.inv_cdf(1 - rate / 2) + normal.inv_cdf(_POWER)) * deviation / mean) ** 2
    # Fewer than this have no verdict, whatever they are.
    fewest = math.ceil(1 - math.log2(rate))
    return max(1, math.ceil(wanted) - count, fewest - count)
