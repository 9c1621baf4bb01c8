"""The report of a run: tables with ratios on the terminal, and a page with charts."""

from __future__ import annotations

import html
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from bench.results import Row
from bench.serve_section import TARGETS, Target

_COLOURS = {
    "steersman": "#0f766e",
    "floor": "#94a3b8",
    "serve-grpc-best": "#b45309",
    "serve-grpc": "#d97706",
    "serve-http-torch": "#f59e0b",
}
_CHARTS = (
    ("actions_per_s", "Requests answered per second (more is better)"),
    ("p50_ms", "Median latency, milliseconds (less is better)"),
    ("p99_ms", "99th percentile of latency, milliseconds (less is better)"),
)


def find(rows: Sequence[Row], load: str, system: str, metric: str) -> Row | None:
    """Finds a row."""
    return next((row for row in rows if (row.load, row.system, row.metric) == (load, system, metric)), None)


def ratio(rows: Sequence[Row], target: Target) -> float | None:
    """Gives Steersman's number over the other system's; None where one was not measured."""
    ours = find(rows, target.load, "steersman", target.metric)
    theirs = find(rows, target.load, target.against, target.metric)
    return ours.median / theirs.median if ours and theirs and theirs.median else None


def holds(rows: Sequence[Row], target: Target) -> bool | None:
    """Tells whether a target holds; None where it was not measured."""
    value = ratio(rows, target)
    if value is None:
        return None
    return value >= target.bound if target.at_least else value <= target.bound


def print_report(console: Console, rows: Sequence[Row]) -> None:
    """Prints the numbers and the ratios."""
    table = Table(title="Section serve: medians (smallest to largest turn)", title_justify="left")
    for column in ("load", "system", "actions/s", "p50 ms", "p99 ms", "mean batch"):
        table.add_column(column, justify="left" if column in ("load", "system") else "right")
    for load, system in dict.fromkeys((row.load, row.system) for row in rows):
        cells = [_cell(rows, load, system, metric) for metric in ("actions_per_s", "p50_ms", "p99_ms")]
        if any(cells):
            batch = find(rows, load, system, "mean_batch_size")
            table.add_row(load, system, *cells, f"{batch.median:.1f}" if batch else "")
    console.print(table)
    ratios = Table(title="What must hold", title_justify="left")
    for column in ("load", "metric", "against", "wanted", "measured", ""):
        ratios.add_column(column)
    for target in TARGETS:
        value = ratio(rows, target)
        if value is not None:
            wanted = f"{'at least' if target.at_least else 'at most'} {target.bound:g}"
            verdict = "[green]holds" if holds(rows, target) else "[bold red]missed"
            ratios.add_row(target.load, target.metric, target.against, wanted, f"{value:.2f}", verdict)
    console.print(ratios)
    for row in rows:
        if row.load == "gateway":
            console.print(f"gateway {row.metric}: {row.median:.2f} ({row.min:.2f} to {row.max:.2f})", highlight=False)


def _cell(rows: Sequence[Row], load: str, system: str, metric: str) -> str:
    row = find(rows, load, system, metric)
    if row is None:
        return ""
    digits = 0 if metric == "actions_per_s" else 2
    return f"{row.median:,.{digits}f} ({row.min:,.{digits}f} to {row.max:,.{digits}f})"


def html_report(rows: Sequence[Row]) -> str:
    """Writes a page of its own with a chart for each metric, one group of bars for each load."""
    charts = "".join(
        f"<h2>{html.escape(title)}</h2>{_chart([row for row in rows if row.metric == metric])}"
        for metric, title in _CHARTS
    )
    return (
        "<!doctype html><meta charset='utf-8'><title>Steersman: benchmark</title>"
        "<style>body{font:15px system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#0f172a}"
        "h1,h2{font-weight:600}h2{margin-top:2.5rem;font-size:1.1rem}text{font:12px system-ui,sans-serif}</style>"
        "<h1>Steersman: benchmark of one run</h1>"
        f"<p>Bars are medians over turns; the line shows the smallest and the largest.</p>{charts}"
    )


def _chart(rows: Sequence[Row]) -> str:
    """Draws horizontal bars; every load has a scale of its own, since loads differ by orders of magnitude."""
    parts, y = [], 0
    for load in dict.fromkeys(row.load for row in rows):
        group = [row for row in rows if row.load == load]
        largest = max(row.max for row in group) or 1.0
        parts.append(f"<text x='0' y='{y + 15}' font-weight='600'>{html.escape(load)}</text>")
        y += 22
        for row in group:
            width, low, high = (480 * value / largest for value in (row.median, row.min, row.max))
            colour = _COLOURS.get(row.system, "#64748b")
            parts.append(
                f"<text x='0' y='{y + 13}'>{html.escape(row.system)}</text>"
                f"<rect x='130' y='{y + 2}' width='{width:.1f}' height='14' rx='2' fill='{colour}'/>"
                f"<line x1='{130 + low:.1f}' x2='{130 + high:.1f}' y1='{y + 9}' y2='{y + 9}' stroke='#0f172a'/>"
                f"<text x='{140 + high:.1f}' y='{y + 13}'>{row.median:,.{0 if row.median >= 100 else 2}f}</text>"
            )
            y += 19
        y += 12
    return f"<svg viewBox='0 0 720 {y}' width='100%' role='img'>{''.join(parts)}</svg>"
