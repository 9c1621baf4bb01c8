"""The report as a web page of its own: charts over time as inline SVG, nothing fetched from anywhere."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.results import machine
from loadtest.report import Report, wanted
from loadtest.timeline import Mark, Timeline

_STYLE = """
:root { --ink: #10212b; --soft: #5d6b73; --line: #dbe2e5; --paper: #fff; --a: #0f766e; --b: #c2410c; --c: #4f46e5;
  --good: #0f766e; --bad: #dc2626; --scaling: #4f46e5; --swap: #0f766e; --fault: #dc2626; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf0; --soft: #93a4ac; --line: #2b3a42; --paper: #10191e;
  --a: #2dd4bf; --b: #fb923c; --c: #a5b4fc; --good: #2dd4bf; --bad: #f87171; --scaling: #a5b4fc; --swap: #2dd4bf;
  --fault: #f87171; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 66rem; margin: 2.5rem auto; padding: 0 1.25rem;
  color: var(--ink); background: var(--paper) }
h1 { font-size: 1.7rem; margin-bottom: .2rem } h2 { font-size: 1.2rem; margin: 2.2rem 0 .4rem }
h3 { font-size: .95rem; margin: 1.3rem 0 .1rem } .soft { color: var(--soft); font-size: .85rem }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .9rem }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--line) } th { color: var(--soft) }
td.number { text-align: right } .holds { color: var(--good); font-weight: 600 }
.missed { color: var(--bad); font-weight: 600 }
svg { width: 100%; height: auto; display: block } text { font: 11px system-ui, sans-serif; fill: var(--soft) }
.frame { stroke: var(--line); fill: none } .series { fill: none; stroke-width: 1.6; stroke-linejoin: round }
.a { stroke: var(--a) } .b { stroke: var(--b) } .c { stroke: var(--c) }
.key { display: inline-block; margin-right: 1rem } .key i { display: inline-block; width: .9rem; height: .2rem;
  vertical-align: middle; margin-right: .35rem } i.a { background: var(--a) } i.b { background: var(--b) }
i.c { background: var(--c) }
.mark { stroke-width: 1; stroke-dasharray: 3 3 } .scaling { stroke: var(--scaling) } .swap { stroke: var(--swap) }
.fault { stroke: var(--fault); stroke-dasharray: none }
"""

_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 940, 150, 56, 8, 18
_CLASSES = ("a", "b", "c")
_NICE = (1, 2, 5, 10)

Points = Sequence[tuple[float, float | None]]


@dataclass(frozen=True)
class _Chart:
    """One chart.

    Attributes:
        title: What it shows.
        series: Points over time, by name; at most three.
        steps: Whether values stay until the next point.
    """

    title: str
    series: dict[str, Points]
    steps: bool = False


def html_page(reports: Sequence[Report]) -> str:
    """Writes the page.

    Args:
        reports: One; or those of the systems of a comparison.
    """
    title = " and ".join(report.scenario for report in reports)
    end = max(_end(report.timeline) for report in reports)
    bodies = "".join(_body(report, end) for report in reports)
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
        f"<title>Steersman: load test {html.escape(title)}</title><style>{_STYLE}</style>{bodies}</html>\n"
    )


def _body(report: Report, end: float) -> str:
    timeline = report.timeline
    marks = [mark for mark in timeline.marks if mark.kind != "level"]
    charts = "".join(_draw(chart, end, marks) for chart in _charts(timeline) if any(chart.series.values()))
    facts = "".join(
        f"<li>{html.escape(name)}: {html.escape(_text(value))}</li>" for name, value in report.facts.items()
    )
    verdict = f"<span class='{_verdict(report)}'>{_verdict(report)}</span>" if report.verdicts else ""
    return (
        f"<h1>Load test: {html.escape(report.scenario)} {verdict}</h1>"
        f"<p>{html.escape(report.description)}</p><p class='soft'>{html.escape(json.dumps(machine()))}</p>"
        + (f"<h2>What had to hold</h2>{_verdicts(report)}" if report.verdicts else "")
        + (f"<h2>What was found</h2><ul>{facts}</ul>" if facts else "")
        + "<h2>Over time</h2><p class='soft'>Seconds since the beginning. Vertical lines: replicas (dashed, blue), "
        f"versions (dashed, green), faults (red); they are listed below.</p>{charts}"
        f"<h2>The levels</h2>{_levels(report)}<h2>What happened</h2>{_marks(marks)}"
    )


def _verdict(report: Report) -> str:
    return "holds" if report.holds else "missed"


def _charts(timeline: Timeline) -> list[_Chart]:
    rows = timeline.as_json()
    seconds = rows["seconds"]

    def per_second(name: str) -> Points:
        return list(zip(seconds, rows[name], strict=True))

    served = timeline.served
    return [
        _Chart(
            "Users",
            {"users": [(at, level.users) for level in timeline.stretches for at in (level.began, level.ended)]},
            steps=True,
        ),
        _Chart("Requests per second", {"answered": per_second("requests_per_second")}),
        _Chart(
            "Observations per second",
            {
                "answered, as clients count": per_second("observations_per_second"),
                "computed, as the gateway counts": [(entry.time, entry.observations_per_second) for entry in served],
            },
        ),
        _Chart(
            "Latency as clients see it, milliseconds",
            {name: per_second(f"{name}_milliseconds") for name in ("p50", "p95", "p99")},
        ),
        _Chart("Failures per second", {"failed": per_second("failures_per_second")}),
        _Chart("Observations that wait for a replica", {"waiting": [(entry.time, entry.waiting) for entry in served]}),
        _Chart("Mean batch", {"observations": [(entry.time, entry.mean_batch) for entry in served]}),
        _Chart(
            "Replicas",
            {
                "wanted": [(entry.time, entry.wanted) for entry in served],
                "ready": [(entry.time, entry.ready) for entry in served],
            },
            steps=True,
        ),
        _Chart(
            "Busy share: processors that a replica takes, on the average",
            {"busy": [(entry.time, entry.busy_share) for entry in served]},
        ),
        _Chart(
            "The load generator itself",
            {
                "processors": [(entry.time, entry.cpu_share) for entry in timeline.generator],
                "lateness, seconds": [(entry.time, entry.lag_seconds) for entry in timeline.generator],
            },
        ),
        *(
            _Chart(f"Memory of {name}, megabytes", {"resident": points})
            for name, points in sorted(timeline.memory.items())
            if len(points) > 2
        ),
    ]


def _draw(chart: _Chart, end: float, marks: Sequence[Mark]) -> str:
    known = [value for points in chart.series.values() for _, value in points if value is not None]
    if not known:
        return ""
    top = nice_ceiling(max(known))
    plot = _HEIGHT - _TOP - _BOTTOM

    def x(time: float) -> float:
        return _LEFT + (_WIDTH - _LEFT) * time / end

    def y(value: float) -> float:
        return _TOP + plot * (1 - value / top)

    parts = [
        f"<rect class='frame' x='{_LEFT}' y='{_TOP}' width='{_WIDTH - _LEFT}' height='{plot}'/>",
        f"<line class='frame' x1='{_LEFT}' x2='{_WIDTH}' y1='{y(top / 2):.1f}' y2='{y(top / 2):.1f}'/>",
        *(
            f"<text x='{_LEFT - 6}' y='{y(value) + 4:.1f}' text-anchor='end'>{value:,g}</text>"
            for value in (0, top / 2, top)
        ),
        *(f"<text x='{x(time):.1f}' y='{_HEIGHT - 4}' text-anchor='middle'>{time:.0f}</text>" for time in _ticks(end)),
        *(
            f"<line class='mark {mark.kind}' x1='{x(mark.time):.1f}' x2='{x(mark.time):.1f}' y1='{_TOP}' "
            f"y2='{_TOP + plot}'><title>{html.escape(mark.text)}</title></line>"
            for mark in marks
        ),
    ]
    for points, style in zip(chart.series.values(), _CLASSES, strict=False):
        parts += [f"<path class='series {style}' d='{piece}'/>" for piece in _paths(points, x, y, steps=chart.steps)]
    names = zip(chart.series, _CLASSES, strict=False)
    keys = "".join(f"<span class='key'><i class='{style}'></i>{html.escape(name)}</span>" for name, style in names)
    return (
        f"<h3>{html.escape(chart.title)}</h3><div class='soft'>{keys if len(chart.series) > 1 else ''}</div>"
        f"<svg viewBox='0 0 {_WIDTH} {_HEIGHT}' role='img'>{''.join(parts)}</svg>"
    )


def _paths(points: Points, x: Any, y: Any, *, steps: bool) -> list[str]:  # noqa: ANN401 - scales
    """Writes a line; where values are missing it has a gap."""
    pieces: list[str] = []
    current = ""
    before: float | None = None
    for time, value in points:
        if value is None:
            pieces.append(current)
            current, before = "", None
            continue
        if before is None:
            current = f"M{x(time):.1f} {y(value):.1f}"
        elif steps:
            current += f"H{x(time):.1f}V{y(value):.1f}"
        else:
            current += f"L{x(time):.1f} {y(value):.1f}"
        before = value
    return [piece for piece in [*pieces, current] if piece]


def nice_ceiling(value: float) -> float:
    """Gives the least of 1, 2, 5, 10, 20, 50 ... (or a tenth of these, and so on) that is not below a value."""
    if value <= 0:
        return 1.0
    power = 10.0 ** len(str(int(value))[1:]) if value >= 1 else 1.0
    while value < power:
        power /= 10
    return next(nice * power for nice in _NICE if nice * power >= value * (1 - 1e-9))


def _ticks(end: float) -> list[float]:
    step = nice_ceiling(end / 8)
    return [number * step for number in range(int(end / step) + 1)]


def _verdicts(report: Report) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(verdict.name)}</td><td>{html.escape(wanted(verdict))}</td>"
        f"<td>{'not measured' if verdict.measured is None else f'{verdict.measured:.4g}'}</td>"
        f"<td class='{'holds' if verdict.holds else 'missed'}'>{'holds' if verdict.holds else 'missed'}</td>"
        f"<td class='soft'>{html.escape(verdict.note)}</td></tr>"
        for verdict in report.verdicts
    )
    return f"<table><tr><th>objective</th><th>wanted</th><th>measured</th><th></th><th></th></tr>{rows}</table>"


def _levels(report: Report) -> str:
    columns = (
        *("users", "phase", "requests_per_second", "observations_per_second", "p50_milliseconds"),
        *("p99_milliseconds", "served_share", "replicas", "failures", "generator_bound"),
    )
    head = "".join(f"<th>{column.replace('_', ' ')}</th>" for column in columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(_text(row[column]))}</td>" for column in columns) + "</tr>"
        for row in report.as_json()["levels"]
    )
    return f"<table><tr>{head}</tr>{rows}</table>"


def _marks(marks: Sequence[Mark]) -> str:
    rows = "".join(
        f"<tr><td>{mark.time:.1f} s</td><td>{html.escape(mark.kind)}</td><td>{html.escape(mark.text)}</td></tr>"
        for mark in sorted(marks, key=lambda mark: mark.time)
    )
    return f"<table><tr><th>when</th><th>what</th><th></th></tr>{rows}</table>" if rows else "<p>Nothing.</p>"


def _text(value: Any) -> str:  # noqa: ANN401 - any JSON value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, float):
        return f"{value:,.3g}" if abs(value) < 100 else f"{value:,.0f}"
    if isinstance(value, list):
        return " to ".join(dict.fromkeys(map(str, value)))
    return str(value)


def _end(timeline: Timeline) -> float:
    ends = [stretch.ended for stretch in timeline.stretches]
    return max([*ends, *(entry.time for entry in timeline.served), 1.0])
