"""The report of a run on the terminal: the numbers, what must hold, and what a reader has to know."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from bench.results import Row
from bench.sections import Section
from bench.targets import Target, find, holds, value

CPU = "cpu_s_per_1000_actions."
MEMORY = "rss_mb."

_METRICS = {
    "actions_per_s": "actions/s",
    "observations_per_s": "observations/s",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "mean_batch_size": "mean batch",
    "us_per_observation": "µs/observation",
    "seconds_to_450": "seconds to 450",
    "steps_to_450": "steps to 450",
    "steps_per_s": "steps/s",
    "seconds_to_first_iteration": "seconds to the first iteration",
}


def print_report(console: Console, rows: Sequence[Row], section: Section) -> None:
    """Prints a section's rows, with the medians' spread, and whether its targets hold."""
    console.print(_numbers(rows, section))
    console.print(_costs(rows))
    console.print(_targets(rows, section))
    for row in rows:
        if row.metric == "failed_requests" and row.max:
            console.print(f"[bold red]{row.system} failed up to {row.max:.0f} requests a turn under {row.load}")
    for note in section.notes:
        console.print(f"[dim]{note}", highlight=False)


def _numbers(rows: Sequence[Row], section: Section) -> Table:
    table = Table(title=f"Section {section.name}: medians (smallest to largest turn)", title_justify="left")
    shown = {metric: title for metric, title in _METRICS.items() if any(row.metric == metric for row in rows)}
    for column in ("load", "system", *shown.values()):
        table.add_column(column, justify="left" if column in ("load", "system") else "right")
    for load, system in dict.fromkeys((row.load, row.system) for row in rows):
        cells = {metric: _cell(rows, load, system, metric) for metric in shown}
        if cells.get("observations_per_s") == cells.get("actions_per_s", ""):
            cells["observations_per_s"] = ""  # one observation a request
        if any(cells.values()):
            table.add_row(load, system, *(cells[metric] for metric in shown))
    return table


def _costs(rows: Sequence[Row]) -> Table:
    table = Table(title="CPU milliseconds per action, and memory, by process", title_justify="left")
    for column in ("load", "system", "CPU ms per action", "memory MB"):
        table.add_column(column)
    for load, system in dict.fromkeys((row.load, row.system) for row in rows):
        ours = [row for row in rows if (row.load, row.system) == (load, system)]
        # Seconds per 1,000 are milliseconds per one.
        cpu = [f"{row.metric.removeprefix(CPU)} {row.median:.3f}" for row in ours if row.metric.startswith(CPU)]
        memory = [
            f"{row.metric.removeprefix(MEMORY)} {row.median:.0f}" for row in ours if row.metric.startswith(MEMORY)
        ]
        if cpu or memory:
            table.add_row(load, system, ", ".join(cpu), ", ".join(memory))
    return table


def _targets(rows: Sequence[Row], section: Section) -> Table:
    table = Table(title="What must hold", title_justify="left")
    for column in ("load", "metric", "against", "wanted", "measured", ""):
        table.add_column(column)
    for target in section.targets:
        measured = value(rows, target)
        table.add_row(
            target.load,
            target.metric,
            target.against or "",
            wanted(target),
            "" if measured is None else f"{measured:.2f}",
            {True: "[green]holds", False: "[bold red]missed", None: "[dim]not measured"}[holds(rows, target)],
        )
    return table


def wanted(target: Target) -> str:
    """Writes a target's bound in words."""
    return f"{'at least' if target.at_least else 'at most'} {target.bound:g}"


def _cell(rows: Sequence[Row], load: str, system: str, metric: str) -> str:
    row = find(rows, load, system, metric)
    if row is None:
        return ""
    digits = 0 if metric.endswith("_per_s") else 2
    return f"{row.median:,.{digits}f} ({row.min:,.{digits}f} to {row.max:,.{digits}f})"
