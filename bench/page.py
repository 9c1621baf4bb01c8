"""The report of all sections as a web page of its own: charts as inline SVG, nothing fetched from anywhere."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

from bench.report import wanted
from bench.results import Row
from bench.sections import Section
from bench.targets import OURS, holds, value

_CHARTS = (
    ("actions_per_s", "Requests answered per second", "longer is better"),
    ("p50_ms", "Median latency, milliseconds", "shorter is better"),
    ("p99_ms", "99th percentile of latency, milliseconds", "shorter is better"),
    ("us_per_observation", "Microseconds per observation", "shorter is better"),
    ("seconds_to_450", "Seconds of training until CartPole returns 450", "shorter is better"),
    ("steps_per_s", "Environment steps per second", "longer is better"),
    ("seconds_to_first_iteration", "Seconds from the request to the first iteration", "shorter is better"),
)
_STYLE = """
:root { --ink: #10212b; --soft: #5d6b73; --line: #dbe2e5; --paper: #fff; --ours: #0f766e; --theirs: #9fb3bd; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf0; --soft: #93a4ac; --line: #2b3a42; --paper: #10191e; --ours: #2dd4bf; --theirs: #55707d; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2.5rem auto; padding: 0 1.25rem;
  color: var(--ink); background: var(--paper); }
h1 { font-size: 1.7rem; margin-bottom: .2rem } h2 { font-size: 1.25rem; margin-top: 2.5rem }
h3 { font-size: 1rem; margin: 2rem 0 .3rem } h3 small, .soft { color: var(--soft); font-weight: 400; font-size: .85rem }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid var(--line) } th { color: var(--soft) }
.holds { color: var(--ours); font-weight: 600 } .missed { color: #dc2626; font-weight: 600 }
svg { width: 100%; height: auto } text { font: 12px system-ui, sans-serif; fill: var(--ink) }
.load { font-weight: 600 } .bar { fill: var(--theirs) } .ours { fill: var(--ours) } .spread { stroke: var(--ink) }
"""
_LABEL_WIDTH, _BAR_WIDTH, _VALUE_WIDTH = 130, 480, 110


def html_page(rows: Sequence[Row], sections: Sequence[Section], machine: Mapping[str, Any]) -> str:
    """Writes the page.

    Args:
        rows: Of all sections.
        sections: The sections that are known.
        machine: Where it ran.
    """
    body = "".join(
        _section([row for row in rows if row.section == section.name], section)
        for section in sections
        if any(row.section == section.name for row in rows)
    )
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>Steersman: benchmark</title>"
        f"<meta name='viewport' content='width=device-width'><style>{_STYLE}</style><h1>Steersman: benchmark</h1>"
        f"<p class='soft'>{html.escape(json.dumps(machine))}</p>{body}</html>\n"
    )


def _section(rows: Sequence[Row], section: Section) -> str:
    charts = "".join(
        f"<h3>{html.escape(title)} <small>{html.escape(hint)}</small></h3>"
        f"{_chart([row for row in rows if row.metric == metric])}"
        for metric, title, hint in _CHARTS
        if any(row.metric == metric for row in rows)
    )
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in section.notes)
    return (
        f"<h2>Section {html.escape(section.name)}</h2><p class='soft'>Bars are medians over turns, lines reach from "
        f"the smallest to the largest turn.</p>{_targets(rows, section)}{charts}<ul class='soft'>{notes}</ul>"
    )


def _targets(rows: Sequence[Row], section: Section) -> str:
    lines = []
    for target in section.targets:
        verdict = {True: "holds", False: "missed", None: "not measured"}[holds(rows, target)]
        measured = value(rows, target)
        cells = (
            target.load,
            target.metric,
            f"against {target.against}" if target.against else "",
            wanted(target),
            "" if measured is None else f"{measured:.2f}",
        )
        texts = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
        lines.append(f"<tr>{texts}<td class='{verdict.split()[0]}'>{verdict}</td></tr>")
    head = "".join(f"<th>{name}</th>" for name in ("load", "metric", "", "wanted", "measured", ""))
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>"


def _chart(rows: Sequence[Row]) -> str:
    """Draws horizontal bars; every load has a scale of its own, since loads differ by orders of magnitude."""
    parts, y = [], 0
    for load in dict.fromkeys(row.load for row in rows):
        group = [row for row in rows if row.load == load]
        largest = max(row.max for row in group) or 1.0
        parts.append(f"<text class='load' x='0' y='{y + 15}'>{html.escape(load)}</text>")
        y += 22
        for row in group:
            width, low, high = (_BAR_WIDTH * number / largest for number in (row.median, row.min, row.max))
            style = "bar ours" if row.system in OURS else "bar"
            parts.append(
                f"<text x='0' y='{y + 13}'>{html.escape(row.system)}</text>"
                f"<rect class='{style}' x='{_LABEL_WIDTH}' y='{y + 2}' width='{width:.1f}' height='14' rx='2'/>"
                f"<line class='spread' x1='{_LABEL_WIDTH + low:.1f}' x2='{_LABEL_WIDTH + high:.1f}' "
                f"y1='{y + 9}' y2='{y + 9}'/>"
                f"<text x='{_LABEL_WIDTH + high + 8:.1f}' y='{y + 13}'>"
                f"{row.median:,.{0 if row.median >= 100 else 2}f}</text>"
            )
            y += 19
        y += 12
    return f"<svg viewBox='0 0 {_LABEL_WIDTH + _BAR_WIDTH + _VALUE_WIDTH} {y}' role='img'>{''.join(parts)}</svg>"
