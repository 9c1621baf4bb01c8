from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.objectives import judge
from loadtest.page import html_page, nice_ceiling
from loadtest.report import Report
from loadtest.timeline import Mark, Timeline
from tests.unit.loadtest.test_objectives import OBJECTIVES, good_timeline


def report(timeline: Timeline) -> Report:
    return Report("autoscaling", "More & more <users>.", timeline, judge(OBJECTIVES, timeline), {"capacity": 7})


def test_the_page_shows_everything_and_fetches_nothing() -> None:
    timeline = good_timeline()
    timeline.marks = [Mark(22, "scaling", "2 replicas wanted instead of 1"), Mark(50, "fault", "replica <killed>")]
    page = html_page([report(timeline)])
    for word in (
        "More &amp; more &lt;users&gt;.",
        "2 replicas wanted instead of 1",
        "replica &lt;killed&gt;",
        "capacity: 7",
    ):
        assert word in page
    assert page.count("<svg") >= 7
    for address in ("http:", "https:", "src=", "@import", "<script", "<link"):
        assert address not in page


def test_charts_are_well_formed() -> None:
    page = html_page([report(good_timeline())])
    for piece in page.split("<svg")[1:]:
        ET.fromstring("<svg" + piece.partition("</svg>")[0] + "</svg>")  # noqa: S314 - our own


def test_an_empty_report_is_a_page_too() -> None:
    assert "missed" in html_page([report(Timeline())])


def test_the_report_is_json() -> None:
    written = report(good_timeline()).as_json()
    assert written["holds"] is True
    assert [level["users"] for level in written["levels"]] == [1, 2, 1]
    assert written["levels"][1]["replicas"] == [1, 2]
    assert len(written["timeline"]["seconds"]) == 100
    assert written["timeline"]["requests_per_second"][30] == 20


@pytest.mark.parametrize(
    ("value", "ceiling"), [(0, 1), (0.03, 0.05), (1, 1), (1.1, 2), (7, 10), (49, 50), (51, 100), (2001, 5000)]
)
def test_axes_end_at_round_numbers(value: float, ceiling: float) -> None:
    assert nice_ceiling(value) == pytest.approx(ceiling)


@given(value=st.floats(1e-6, 1e9))
def test_axes_are_large_enough_and_not_too_large(value: float) -> None:
    assert value * 0.999 <= nice_ceiling(value) <= value * 2.6
