"""What a load test found: as JSON, and as a table."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.table import Table

from bench.results import machine
from loadtest.objectives import Verdict, generator_bound, judged_from, memory_slopes, served_share
from loadtest.timeline import Stretch, Timeline, percentile


@dataclass(frozen=True)
class Report:
    """A load test that is over.

    Attributes:
        scenario: Its name.
        description: What was done, in a sentence or two.
        timeline: What was seen.
        verdicts: What was wanted, and whether it held.
        facts: What else was found, by name.
    """

    scenario: str
    description: str
    timeline: Timeline
    verdicts: Sequence[Verdict]
    facts: dict[str, Any]

    @property
    def holds(self) -> bool:
        """Whether every objective held."""
        return all(verdict.holds for verdict in self.verdicts)

    def as_json(self) -> dict[str, Any]:
        """Gives everything as JSON values."""
        return {
            "scenario": self.scenario,
            "description": self.description,
            "holds": self.holds,
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "verdicts": [dataclasses.asdict(verdict) for verdict in self.verdicts],
            "facts": self.facts,
            "levels": [level_row(self.timeline, stretch) for stretch in self.timeline.stretches],
            "failures": dict(self.timeline.within(0, max(self.timeline.requests, default=0) + 1).failures),
            "megabytes_per_100k_requests": memory_slopes(self.timeline),
            "timeline": self.timeline.as_json(),
        }


def level_row(timeline: Timeline, stretch: Stretch) -> dict[str, Any]:
    """Describes a level: what was offered and served, how fast, by how many replicas."""
    began = judged_from(stretch)
    seconds = max(stretch.ended - began, 1e-9)
    requests = timeline.within(began, stretch.ended)
    ready = [entry.ready for entry in timeline.served if stretch.began <= entry.time < stretch.ended]
    return {
        "users": stretch.users,
        "phase": stretch.phase,
        "seconds": stretch.ended - stretch.began,
        "requests_per_second": len(requests.latencies) / seconds,
        "observations_per_second": requests.observations / seconds,
        "p50_milliseconds": percentile(requests.latencies, 50),
        "p99_milliseconds": percentile(requests.latencies, 99),
        "failures": requests.failures.total(),
        "served_share": served_share(timeline, stretch),
        "replicas": [min(ready), max(ready)] if ready else None,
        "generator_bound": generator_bound(timeline, stretch),
    }


def write_report(folder: Path, reports: Sequence[Report], page: str) -> list[Path]:
    """Writes report.json and report.html into a folder, and gives their paths.

    Args:
        folder: Where to.
        reports: One, which is the JSON; or those of a comparison, which are listed.
        page: The web page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "report.json", folder / "report.html"]
    found = [report.as_json() for report in reports]
    paths[0].write_text(json.dumps(found[0] if len(found) == 1 else {"systems": found}))
    paths[1].write_text(page)
    return paths


def levels_table(report: Report) -> Table:
    """Shows the levels."""
    table = Table(title=f"{report.scenario}: the levels", title_justify="left")
    for column in ("users", "phase", "req/s", "obs/s", "p50 ms", "p99 ms", "served", "replicas", "bound by"):
        table.add_column(column, justify="left" if column in {"phase", "bound by"} else "right", no_wrap=True)
    for row in (level_row(report.timeline, stretch) for stretch in report.timeline.stretches):
        replicas = row["replicas"]
        table.add_row(
            str(row["users"]),
            row["phase"],
            f"{row['requests_per_second']:,.0f}",
            f"{row['observations_per_second']:,.0f}",
            _number(row["p50_milliseconds"]),
            _number(row["p99_milliseconds"]),
            "" if row["served_share"] is None else f"{row['served_share']:.3f}",
            "" if replicas is None else "-".join(dict.fromkeys(map(str, replicas))),
            "generator" if row["generator_bound"] else "",
        )
    return table


def verdicts_table(report: Report) -> Table:
    """Shows the objectives."""
    table = Table(title="What had to hold", title_justify="left")
    for column in ("objective", "wanted", "measured", "", ""):
        table.add_column(column)
    for verdict in report.verdicts:
        table.add_row(
            verdict.name,
            wanted(verdict),
            "not measured" if verdict.measured is None else f"{verdict.measured:.4g}",
            "[green]holds" if verdict.holds else "[bold red]missed",
            verdict.note,
        )
    return table


def wanted(verdict: Verdict) -> str:
    """Says what an objective wants."""
    word = "at least" if verdict.name in {"replicas_at_least", "served_share"} else "at most"
    return f"{word} {verdict.bound:g}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
