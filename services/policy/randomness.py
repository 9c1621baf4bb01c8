"""Reproducible randomness for sampled actions.

Each number is a function of the request's seed, the observation's index in its request and the number's index in the
action, and of nothing else; so a request gives the same actions however it is batched, split or retried. The function
is SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014), evaluated for all
observations of a batch at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_ROW_GAMMA = np.uint64(0xD1B54A32D192ED03)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


@dataclass(frozen=True, slots=True)
class Draw:
    """Consecutive observations of a batch that come from one request.

    Attributes:
        count: How many.
        seed: The request's seed, 64 bits.
        first: Index of the first of them in the request.
    """

    count: int
    seed: int
    first: int


def uniforms(draws: Sequence[Draw], width: int) -> npt.NDArray[np.float64]:
    """Gives uniform numbers for the observations of a batch.

    Args:
        draws: The batch's observations.
        width: Numbers for each observation.

    Returns:
        Shape [batch, width], each number strictly between 0 and 1.
    """
    counts = [draw.count for draw in draws]
    seeds = np.repeat(np.array([draw.seed for draw in draws], np.uint64), counts)
    rows = np.concatenate([np.arange(draw.first, draw.first + draw.count, dtype=np.uint64) for draw in draws])
    columns = np.arange(1, width + 1, dtype=np.uint64)
    # Unsigned arithmetic wraps around, which is meant. Each row is a stream of its own, begun at a mixed place.
    starts = _mix(seeds + (rows + np.uint64(1)) * _ROW_GAMMA)
    bits = _mix(starts[:, np.newaxis] + columns * _GOLDEN_GAMMA)
    # Half a step keeps 0 and 1 out. It takes the last bit of a double's 53: with 53 bits before it, the largest number
    # would be rounded to 1.
    return ((bits >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


def _mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    values = (values ^ (values >> np.uint64(30))) * _MIX_1
    values = (values ^ (values >> np.uint64(27))) * _MIX_2
    return values ^ (values >> np.uint64(31))
