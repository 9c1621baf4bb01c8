"""How long a version takes to answer a batch at one replica, as far as earlier answers tell."""

from __future__ import annotations

_FORGETTING = 0.99
"""How much of the slowest answer is remembered after each one of about its size."""


class AnswerTimes:
    """The slowest answers lately, by the size of their batches in powers of two.

    Example:
        >>> times = AnswerTimes()
        >>> times.add(size=8, seconds=0.4)
        >>> times.expected(size=64)
        3.2
    """

    def __init__(self) -> None:
        # By the bit length of the size: the slowest answer, and the smallest batch that it stands for.
        self._slowest: dict[int, float] = {}
        self._smallest: dict[int, int] = {}

    def add(self, size: int, seconds: float) -> None:
        """Takes an answer into account.

        Args:
            size: Observations in the batch.
            seconds: What it took.
        """
        kind = size.bit_length()
        self._slowest[kind] = max(seconds, _FORGETTING * self._slowest.get(kind, 0.0))
        self._smallest[kind] = min(size, self._smallest.get(kind, size))

    def expected(self, size: int) -> float | None:
        """Gives the seconds that a batch should take at most.

        That is as long as the slowest one that was no larger; and longer in proportion where none so large was
        answered yet. A batch has costs of its own besides those of its observations, so it is seldom so slow.

        Args:
            size: Observations in the batch.

        Returns:
            None if nothing was answered yet.
        """
        if not self._slowest:
            return None
        smaller = [kind for kind in self._slowest if self._smallest[kind] <= size]
        if not smaller:
            return min(self._slowest.values())
        largest = max(smaller)
        in_proportion = self._slowest[largest] * size / self._smallest[largest]
        return max(in_proportion, *(self._slowest[kind] for kind in smaller))
