"""What came of the faults: rows, their file and their table."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from faults.fault import Fault
from faults.tally import Counts, Report

_REASONS = 5
"""Different failures that are told."""


@dataclass(frozen=True)
class Outcome:
    """What clients noticed of one fault.

    Attributes:
        name: The fault.
        times: How often it was made.
        seconds: How long clients asked: from before the fault until the system was healthy again.
        offered_per_s: Requests per second that there were to be.
        reached_per_s: Requests per second that there were.
        requests: Requests that were made.
        failed: Those that failed. Of a client with too short a deadline only those that were told so late.
        longest_gap_ms: Milliseconds, at most, between two answers.
        p99_ms: 99th percentile of the latency in milliseconds.
        protocols: What the clients of each protocol got.
        without_retries: What clients got that repeat nothing. They are not part of the load, and their failures count
            as such only where no connection breaks.
        recovered: Whether the system was healthy again in time.
        holds: Whether nothing failed, there were requests enough, and the gap was short enough.
        reasons: Why it does not.
    """

    name: str
    times: int
    seconds: float
    offered_per_s: float
    reached_per_s: float
    requests: int
    failed: int
    longest_gap_ms: float
    p99_ms: float
    protocols: dict[str, Counts]
    without_retries: Counts
    recovered: bool
    holds: bool
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wanted:
    """How much load there shall be on every fault.

    Attributes:
        rate: Requests per second; where the machine does not give that, as many as it does.
        requests: Requests that there have to be.
    """

    rate: float
    requests: int


def outcome(fault: Fault, report: Report, wanted: Wanted, times: int = 1, trouble: str = "") -> Outcome:
    """Judges a fault.

    Args:
        fault: The fault.
        report: What clients got meanwhile.
        wanted: How much load there was to be.
        times: How often the fault was made.
        trouble: Why the system did not recover; empty if it did.
    """
    requests = sum(counts.sent for counts in report.protocols.values())
    judged = {**report.protocols, "in a hurry": report.hasty}
    if not fault.breaks_connections:
        judged["without retries"] = report.without_retries
    failures = Counter(
        {(name, why): times for name, counts in judged.items() for why, times in counts.failures.items()}
    )
    reasons = [trouble] if trouble else []
    reasons += [f"{times} x {why} ({name})" for (name, why), times in failures.most_common(_REASONS)]
    if report.longest_gap_ms > 1000 * fault.longest_gap:
        gap = report.longest_gap_ms / 1000
        reasons.append(f"expected an answer at least every {fault.longest_gap:g} s, got none for {gap:.1f} s")
    if requests < wanted.requests:
        reasons.append(f"expected at least {wanted.requests:,} requests, got {requests:,}")
    silent = [name for name, counts in report.protocols.items() if not counts.answered]
    reasons += [f"expected answers on every protocol, got none on {name}" for name in silent]
    return Outcome(
        fault.name,
        times,
        round(report.seconds, 1),
        wanted.rate,
        round(requests / report.seconds, 1),
        requests,
        failures.total(),
        report.longest_gap_ms,
        report.p99_ms,
        report.protocols,
        report.without_retries,
        not trouble,
        not reasons,
        tuple(reasons),
    )


def write_outcomes(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Writes all outcomes as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"faults": [asdict(entry) for entry in outcomes]}, indent=2) + "\n")


def sentence(entry: Outcome) -> str:
    """Tells in a line, or in several, what came of a fault."""
    told = (
        f"{'[green]holds[/]' if entry.holds else '[bold red]missed[/]'} [bold]{entry.name}[/]: "
        f"{entry.requests:,} requests at {entry.reached_per_s:,.0f}/s, {entry.failed} failed, "
        f"longest gap {entry.longest_gap_ms:,.0f} ms"
    )
    return "\n".join([told, *(f"  {escape(reason)}" for reason in entry.reasons)])


def table(outcomes: Sequence[Outcome]) -> Table:
    """Draws all outcomes."""
    drawn = Table(title="What clients noticed", title_justify="left")
    protocols = list(outcomes[0].protocols) if outcomes else []
    drawn.add_column("fault", no_wrap=True)
    ours = ("times", "requests", "offered/s", "reached/s")
    for column in (*ours, *protocols, "failed", "without retries", "longest gap", "p99", "took"):
        drawn.add_column(column, justify="right")
    drawn.add_column("")
    for entry in outcomes:
        drawn.add_row(
            entry.name,
            str(entry.times),
            f"{entry.requests:,}",
            f"{entry.offered_per_s:,.0f}",
            f"{entry.reached_per_s:,.0f}",
            *(f"{entry.protocols[name].sent / entry.seconds:,.0f}" for name in protocols),
            str(entry.failed),
            str(entry.without_retries.failed),
            f"{entry.longest_gap_ms:,.0f} ms",
            f"{entry.p99_ms:,.0f} ms",
            f"{entry.seconds:.0f} s",
            "[green]holds" if entry.holds else "[bold red]missed",
        )
    return drawn
