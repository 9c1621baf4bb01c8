"""Sparklines: numbers as a line of bars."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 60


def sparkline(values: Sequence[float], width: int = _WIDTH, floor: float | None = None) -> str:
    """Draws numbers as a line of bars, the largest the highest.

    Args:
        values: The numbers, finite.
        width: Most bars; where there are more numbers, neighbours share one, which is their mean.
        floor: What the smallest bar stands for; None for the smallest of the numbers.
    """
    if not values:
        return ""
    bars = min(width, len(values))
    edges = [len(values) * bar // bars for bar in range(bars + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    low, high = min(means) if floor is None else floor, max(means)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((mean - low) * scale)] for mean in means)
