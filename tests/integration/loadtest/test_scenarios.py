"""Scenarios from beginning to end, as the command line runs them."""

from __future__ import annotations

import pytest

from loadtest.chaos import EVENTS
from loadtest.objectives import read_objectives
from loadtest.page import html_page
from loadtest.scenarios import SCENARIOS, Scope

pytestmark = [pytest.mark.integration, pytest.mark.long, pytest.mark.timeout(400)]


def test_no_request_fails_in_chaos() -> None:
    told: list[str] = []
    chaos = SCENARIOS["chaos"]
    (report,) = chaos.run(chaos, Scope(read_objectives("chaos"), users=6), told.append)
    assert report.holds, report.verdicts
    assert report.facts.keys() == EVENTS.keys()
    assert {*EVENTS} <= {*told}
    marked = {mark.text for mark in report.timeline.marks if mark.kind in {"fault", "swap"}}
    assert {*EVENTS} <= marked
    assert all(name in html_page([report]) for name in EVENTS)


def test_a_capacity_is_found() -> None:
    knee = SCENARIOS["knee"]
    # A bound that is soon broken.
    (report,) = knee.run(knee, Scope({"p99_milliseconds": 10.0}), lambda _: None)
    assert report.facts["capacity in users"] >= 0
    assert len(report.timeline.stretches) >= 1
    assert report.holds
