"""What a run must show, and whether it does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.results import Row

OURS = frozenset({"steersman", "oip", "swapping", "bundle"})
"""The systems that are Steersman, or a part of it."""


@dataclass(frozen=True)
class Target:
    """A bound on one of Steersman's numbers, or on its ratio to another system's.

    Attributes:
        load: The load.
        metric: The metric.
        against: The system that Steersman's number is divided by; None for a bound on the number itself.
        bound: The bound.
        at_least: Whether the value must be at least the bound; else at most.
        ours: The system whose number it is.
    """

    load: str
    metric: str
    against: str | None
    bound: float
    at_least: bool = True
    ours: str = "steersman"


def find(rows: Sequence[Row], load: str, system: str, metric: str) -> Row | None:
    """Finds a row."""
    return next((row for row in rows if (row.load, row.system, row.metric) == (load, system, metric)), None)


def value(rows: Sequence[Row], target: Target) -> float | None:
    """Gives what a target is about: Steersman's median, over the other system's where there is one.

    Returns:
        The value; None where it cannot be told, because a number was not measured or the other system's is 0.
    """
    ours = find(rows, target.load, target.ours, target.metric)
    if ours is None or target.against is None:
        return ours.median if ours else None
    theirs = find(rows, target.load, target.against, target.metric)
    return ours.median / theirs.median if theirs and theirs.median else None


def holds(rows: Sequence[Row], target: Target) -> bool | None:
    """Tells whether a target holds; None where it cannot be told."""
    measured = value(rows, target)
    if measured is None:
        return None
    return measured >= target.bound if target.at_least else measured <= target.bound
