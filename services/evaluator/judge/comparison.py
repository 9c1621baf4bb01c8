"""Which of two policies is better: paired differences, an interval, and what follows from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from statistics import NormalDist

import numpy as np
from scipy import stats

from services.evaluator.judge.confidence_sequence import empirical_bernstein
from services.evaluator.judge.summary_statistics import mean_interval, probability_of_improvement
from steersman.errors import InvalidArgumentError

ERROR_RATE = 0.05
FIRST_LOOK = 160
"""Pairs at the first look of a sequential comparison without bounds; each further one comes after twice as many.

Student's interval needs a mean that is nearly normal. With a first look after 20 pairs, skewed differences with a mean
of 0 were called up to 38% of the time; docs/evaluation.md has what is left of that.
"""

FIRST_BOUNDED_LOOK = 40
"""Pairs at the first look where returns have bounds; each further one comes after half as many again. Looking costs
nothing then, but worker processes are started for each."""

_POWER = 0.8
_MOST_PAIRS_FORESEEN = 100_000


class Method(Enum):
    """How an interval was made; see `IntervalMethod` in the protos."""

    BOOTSTRAP = 1
    STUDENT = 2
    EMPIRICAL_BERNSTEIN = 3


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
        method: How the interval was made.
        further_pairs: About how many more pairs would tell with a probability of 80%, if the difference is what it
            seems; 0 where it can be told already; None where that is not known, since there was no difference at all,
            or it would take very many.
    """

    difference: float
    interval: tuple[float, float]
    probability: float
    verdict: Verdict
    method: Method
    further_pairs: int | None


def compare(
    policy: Sequence[float],
    baseline: Sequence[float],
    error_rate: float,
    look: int = 0,
    bounds: tuple[float, float] | None = None,
) -> Comparison:
    """Compares the returns of two policies, played on the same seeds.

    Args:
        policy: Returns of the one that may be better; at least one.
        baseline: Returns of the other one in the same episodes.
        error_rate: Probability of a verdict where there is no difference.
        look: 0 where this is the only time that one looks; else which look this is, from 1. Without bounds, look k
            spends error_rate / (k (k + 1)), which over all looks adds up to the error rate, however many there are. As
            far as Student's interval is right, that is: a loss too rare to have been seen is in no interval.
        bounds: What every return is within. Then the interval holds after any number of pairs, however skewed the
            differences are.

    Raises:
        InvalidArgumentError: If a return is not within the bounds.
    """
    differences = np.asarray(policy, np.float64) - np.asarray(baseline, np.float64)
    values = differences.tolist()
    if bounds is not None:
        _check_bounds([*policy, *baseline], bounds)
        widest = bounds[1] - bounds[0]
        lows, highs = empirical_bernstein(values, -widest, widest, error_rate)
        interval, method, rate = (float(lows[-1]), float(highs[-1])), Method.EMPIRICAL_BERNSTEIN, error_rate
        verdict = _side(interval)
    else:
        rate = error_rate / (look * (look + 1)) if look else error_rate
        interval = _student_interval(values, rate) if look else mean_interval(values, 1 - rate)
        method = Method.STUDENT if look else Method.BOOTSTRAP
        verdict = _verdict(interval, differences.size, rate)
    further: int | None = 0
    if verdict is Verdict.UNCLEAR:
        further = _further_pairs(values, rate) if bounds is None else _further_bounded_pairs(values, widest, rate)
    return Comparison(
        difference=float(differences.mean()),
        interval=interval,
        probability=probability_of_improvement(policy, baseline),
        verdict=verdict,
        method=method,
        further_pairs=further,
    )


def looks(episodes: int, *, bounded: bool = False) -> list[int]:
    """Gives after how many pairs a sequential comparison looks at the results.

    Args:
        episodes: The most that may be played; the last look comes then.
        bounded: Whether returns have bounds.
    """
    counts = []
    count = FIRST_BOUNDED_LOOK if bounded else FIRST_LOOK
    while count < episodes:
        counts.append(count)
        count = count * 3 // 2 if bounded else count * 2
    return [*counts, episodes]


def _check_bounds(returns: Sequence[float], bounds: tuple[float, float]) -> None:
    for value in returns:
        if not bounds[0] <= value <= bounds[1]:
            raise InvalidArgumentError(
                f"expected returns from {bounds[0]:g} to {bounds[1]:g}, as the bounds say, got {value:g}"
            )


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
    return _side(interval)


def _side(interval: tuple[float, float]) -> Verdict:
    low, high = interval
    if low > high:
        # No mean is left: what the interval rests on does not hold, or it is one of the few that err.
        return Verdict.UNCLEAR
    return Verdict.BETTER if low > 0 else Verdict.WORSE if high < 0 else Verdict.UNCLEAR


def _further_pairs(differences: Sequence[float], rate: float) -> int | None:
    mean, count = float(np.mean(differences)), len(differences)
    if not mean:
        return None
    deviation = float(np.std(differences, ddof=1)) if count > 1 else abs(mean)
    normal = NormalDist()
    wanted = ((normal.inv_cdf(1 - rate / 2) + normal.inv_cdf(_POWER)) * deviation / mean) ** 2
    # Fewer than this have no verdict, whatever they are.
    fewest = math.ceil(1 - math.log2(rate))
    return max(1, math.ceil(wanted) - count, fewest - count)


def _further_bounded_pairs(differences: Sequence[float], widest: float, rate: float) -> int | None:
    """Plays the same differences again and again, until that would tell; None if it takes too many."""
    mean, count, total = float(np.mean(differences)), len(differences), len(differences)
    while mean and total < _MOST_PAIRS_FORESEEN:
        total = min(4 * total, _MOST_PAIRS_FORESEEN)
        lows, highs = empirical_bernstein(np.resize(differences, total), -widest, widest, rate)
        told = lows > 0 if mean > 0 else highs < 0
        if told.any():
            return max(1, int(np.argmax(told)) + 1 - count)
    return None
