"""What came of the faults: rows, their file and their table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.table import Table

from faults.catalogue import Fault
from faults.load import Load


@dataclass(frozen=True)
class Outcome:
    """What clients noticed of one fault.

    Attributes:
        name: The fault.
        requests: Requests that were made, from before the fault until the system was healthy again.
        failed: Those that failed. Of a client with too short a deadline only those that were told so late.
        longest_gap_ms: Milliseconds, at most, between two answers.
        p99_ms: 99th percentile of the latency in milliseconds.
        seconds: How long that was.
        holds: Whether nothing failed and the gap was short enough.
        reasons: Why requests failed.
    """

    name: str
    requests: int
    failed: int
    longest_gap_ms: float
    p99_ms: float
    seconds: float
    holds: bool
    reasons: tuple[str, ...] = ()


def outcome(fault: Fault, load: Load, seconds: float, trouble: str = "") -> Outcome:
    """Judges a fault.

    Args:
        fault: The fault.
        load: What clients got meanwhile; it has ended.
        seconds: How long that was.
        trouble: Why the system did not recover; empty if it did.
    """
    failed = load.tally.failed + load.hasty.failed
    reasons = [trouble] if trouble else []
    reasons += [f"{count} x {reason}" for reason, count in (load.tally.failures + load.hasty.failures).most_common(5)]
    gap = load.tally.longest_gap
    if gap > fault.longest_gap:
        reasons.append(f"expected an answer at least every {fault.longest_gap:g} s, got none for {gap:.1f} s")
    return Outcome(
        fault.name,
        load.tally.requests + load.hasty.requests,
        failed,
        round(1000 * gap, 1),
        round(1000 * load.tally.p99, 1),
        round(seconds, 1),
        not reasons,
        tuple(reasons),
    )


def write_outcomes(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Writes all outcomes as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"faults": [asdict(entry) for entry in outcomes]}, indent=2) + "\n")


def table(outcomes: Sequence[Outcome]) -> Table:
    """Draws all outcomes."""
    drawn = Table(title="What clients noticed", title_justify="left")
    for column in ("fault", "requests", "failed", "longest gap", "p99", "took", ""):
        drawn.add_column(column, justify="left" if column in ("fault", "") else "right")
    for entry in outcomes:
        drawn.add_row(
            entry.name,
            f"{entry.requests:,}",
            str(entry.failed),
            f"{entry.longest_gap_ms:,.0f} ms",
            f"{entry.p99_ms:,.0f} ms",
            f"{entry.seconds:.1f} s",
            "[green]holds" if entry.holds else "[bold red]missed",
        )
    return drawn
