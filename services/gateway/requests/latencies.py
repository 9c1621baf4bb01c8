"""Latencies as counts in buckets: cheap to add to, to subtract and to sum over processes.

Each power of two of microseconds is cut into eight buckets of the same width, as in HdrHistogram
(https://hdrhistogram.github.io/HdrHistogram/), so a percentile is known to within a sixteenth of itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

_BITS = 3
_PARTS = 1 << _BITS
_LONGEST_MICROSECONDS = (1 << 32) - 1

BUCKETS = (32 - _BITS + 1) * _PARTS
"""How many buckets there are; the last one ends at 71 minutes."""


def bucket_of(seconds: float) -> int:
    """Finds the bucket of a latency.

    Args:
        seconds: The latency; what is below 0 or beyond the last bucket counts in the nearest one.
    """
    microseconds = min(max(0, int(seconds * 1e6)), _LONGEST_MICROSECONDS)
    shift = microseconds.bit_length() - _BITS - 1
    return microseconds if shift <= 0 else (shift << _BITS) + (microseconds >> shift)


def middle_of(bucket: int) -> float:
    """Gives the latency in the middle of a bucket, in seconds."""
    shift = max(0, (bucket >> _BITS) - 1)
    lower = (bucket - (shift << _BITS)) << shift
    return (lower + (1 << shift) / 2) / 1e6


def percentile(counts: Sequence[int], share: float) -> float | None:
    """Estimates a percentile.

    Args:
        counts: How many latencies were in each bucket.
        share: Which, as 0.99.

    Returns:
        Seconds; None if there were no latencies.
    """
    total = sum(counts)
    if not total:
        return None
    rank = share * total
    bucket = next(index for index, so_far in enumerate(accumulate(counts)) if so_far >= rank and so_far)
    return middle_of(bucket)
