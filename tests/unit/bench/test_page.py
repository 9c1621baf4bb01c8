import xml.etree.ElementTree as ET

from bench.page import html_page
from bench.plan import Plan
from bench.results import Row
from bench.sections import Section
from bench.targets import Target

ROWS = [
    Row("serve", "unary-32", "floor", "actions_per_s", 1000, 900, 1100, 3),
    Row("serve", "unary-32", "steersman", "actions_per_s", 850, 800, 870, 3),
    Row("other", "elsewhere", "steersman", "actions_per_s", 1, 1, 1, 3),
]


def nothing(_plan: Plan, _tell: object) -> list[Row]:
    return []


SECTION = Section("serve", nothing, (Target("unary-32", "actions_per_s", "floor", 0.8),), ("Less < more.",))


def page() -> str:
    return html_page(ROWS, [SECTION], {"cpus": 2})


def test_the_page_needs_nothing_from_elsewhere() -> None:
    assert "://" not in page()
    assert "src=" not in page()


def test_it_shows_verdicts_notes_and_known_sections_only() -> None:
    assert "<td>0.85</td><td class='holds'>holds</td>" in page()
    assert "Less &lt; more." in page()
    assert "elsewhere" not in page()


def test_bars_are_as_long_as_their_medians() -> None:
    start = page().index("<svg")
    chart = ET.fromstring(page()[start : page().index("</svg>") + len("</svg>")])  # noqa: S314 - our own page
    floor, ours = (float(bar.attrib["width"]) for bar in chart.iter("rect"))
    assert abs(ours / floor - 0.85) < 0.001
    assert [bar.attrib["class"] for bar in chart.iter("rect")] == ["bar", "bar ours"]
