"""Probation: a version that has never answered is tried with care while there is another one to fall back on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType

MAX_FAILURES = 3
"""Batches that a version may fail in a row, before its first answer, until it is given up. A single one may be due to
an observation that no version can compute."""


class Probation:
    """Which versions of a policy have shown that they work, and which that they do not."""

    def __init__(self) -> None:
        self._proven: set[int] = set()
        self._failures = Counter[int]()
        self._given_up: dict[int, str] = {}

    @property
    def given_up(self) -> Mapping[int, str]:
        """Why versions get nothing any more, by version."""
        return MappingProxyType(self._given_up)

    def is_proven(self, version: int) -> bool:
        """Tells whether a version has answered."""
        return version in self._proven

    def usable(self, loaded: Iterable[int]) -> list[int]:
        """Gives the versions that have not been given up; all of them if none is left."""
        loaded = list(loaded)
        return [version for version in loaded if version not in self._given_up] or loaded

    def succeeded(self, version: int) -> None:
        """Takes note that a version has answered."""
        self._proven.add(version)
        self._failures.pop(version, None)
        self._given_up.pop(version, None)

    def failed(self, version: int, reason: str, *, lost: bool = False) -> bool:
        """Takes note that a version failed a batch before it ever answered one.

        Args:
            version: The version.
            reason: Why, in words.
            lost: Whether the replica was lost with it. Then once is enough: the next time costs the next replica.

        Returns:
            Whether that is enough to give it up.
        """
        self._failures[version] += 1
        if lost or self._failures[version] >= MAX_FAILURES:
            self._given_up[version] = reason
        return version in self._given_up

    def forget(self, loaded: Collection[int]) -> None:
        """Forgets the versions that are not loaded any more; if they come back, they begin anew."""
        self._proven.intersection_update(loaded)
        self.pardon(set(self._failures) - set(loaded))

    def pardon(self, versions: Iterable[int] | None = None) -> None:
        """Gives versions another chance, since somebody has changed what is wanted.

        Args:
            versions: Which; None for all.
        """
        for version in list(self._failures if versions is None else versions):
            self._failures.pop(version, None)
            self._given_up.pop(version, None)
