"""How long to measure what."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """How long to measure what.

    Attributes:
        turns: How often each system has its turn.
        seconds: How long each load is measured in a turn.
        systems: Names of the systems; empty for all.
        loads: Names of the loads; empty for all.
        million: Whether the gateway's memory is followed over a million requests as well.
    """

    turns: int = 3
    seconds: float = 3.0
    systems: frozenset[str] = frozenset()
    loads: frozenset[str] = frozenset()
    million: bool = False
