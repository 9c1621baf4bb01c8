"""What a batch costs: a part for the batch as such, and a part for each observation in it.

A busy replica is not a full one. Where the cost is mostly the batch's, as with small models and on accelerators, a
replica that is always busy with small batches could do many times as much with larger ones, and a second replica would
only make the batches smaller still. So load is not counted in busy time alone, but in the busy time that the same
observations would take in batches of a good size.
"""

from __future__ import annotations

FULL_BATCH_SECONDS = 0.1
"""How long batches may get before a replica counts as full."""

_FADING = 0.97
"""What earlier batches count for against those since the last report."""

_LEAST_SPREAD = 0.04
"""Least squared coefficient of variation of batch sizes that tells the two parts apart."""


class BatchCost:
    """Estimates the two parts from the sizes and times of batches, by weighted least squares.

    Args:
        max_batch_size: The most observations in a batch.
    """

    def __init__(self, max_batch_size: int) -> None:
        self._max_batch_size = max_batch_size
        # Sums over batches of 1, size, size squared, seconds, and size times seconds.
        self._count = self._size = self._square = self._seconds = self._product = 0.0
        # Share of the mean batch's time that is the batch's own. As long as all batches have been of one size, nothing
        # is known of it, and a busy replica is taken for a full one.
        self._own_share = 0.0

    def add(self, size: int, seconds: float) -> None:
        """Takes a batch into account.

        Args:
            size: Observations in it.
            seconds: What it took.
        """
        self._count += 1
        self._size += size
        self._square += size * size
        self._seconds += seconds
        self._product += size * seconds

    def estimate(self) -> None:
        """Estimates anew, and lets what it was estimated from fade. To be called now and then, after new batches."""
        mean_size, mean_seconds = self._size / self._count, self._seconds / self._count
        variance = self._square / self._count - mean_size**2
        if variance > _LEAST_SPREAD * mean_size**2 and mean_seconds > 0:
            slope = (self._product / self._count - mean_size * mean_seconds) / variance
            self._own_share = min(max(0.0, 1 - slope * mean_size / mean_seconds), 1.0)
        self._count *= _FADING
        self._size *= _FADING
        self._square *= _FADING
        self._seconds *= _FADING
        self._product *= _FADING

    @property
    def batch_seconds(self) -> float:
        """What a batch has taken on average."""
        return self._seconds / self._count if self._count else 0.0

    @property
    def full_seconds_per_observation(self) -> float:
        """What an observation would take in batches of a good size; 0 while nothing is known.

        A good size is one that takes `FULL_BATCH_SECONDS`, or twice what the batch itself takes where that is more.
        """
        if not self._count:
            return 0.0
        own, each = self._parts()
        longest = max(FULL_BATCH_SECONDS, 2 * own)
        size = self._max_batch_size if each <= 0 else min(max(1.0, (longest - own) / each), self._max_batch_size)
        return own / size + each

    def full_share(self, batches: int, observations: int) -> float:
        """Tells which share of the time that batches took would have been enough in batches of a good size.

        Args:
            batches: How many; at least 1.
            observations: How many in all of them.

        Returns:
            At most 1.
        """
        own, each = self._parts()
        taken = batches * own + observations * each
        return min(1.0, observations * self.full_seconds_per_observation / taken) if taken > 0 else 1.0

    def _parts(self) -> tuple[float, float]:
        """Gives the seconds of a batch as such, and of each observation."""
        seconds = self.batch_seconds
        return self._own_share * seconds, (1 - self._own_share) * self._seconds / self._size
