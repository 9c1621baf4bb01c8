import json
from dataclasses import replace
from pathlib import Path

import pytest

from faults.catalogue import FAULTS
from faults.results import Wanted, outcome, sentence, table, write_outcomes
from faults.tally import Counts, Report

FAULT = FAULTS["ray-head-killed"]
WANTED = Wanted(rate=100.0, requests=2)
NONE = Counts(0, 0, 0, {}, 0.0, 0.0, 0.0)


def counts(answered: int = 2, failures: dict[str, int] | None = None) -> Counts:
    failed = sum((failures or {}).values())
    return Counts(answered + failed, answered, failed, failures or {}, 2.0, 1.0, 500.0)


def report(longest_gap_ms: float = 1000.0, **protocols: Counts) -> Report:
    return Report(2.0, 0.1, 1.0, longest_gap_ms, protocols or {"unary": counts()}, NONE, NONE)


def test_a_fault_that_nobody_noticed_holds() -> None:
    found = outcome(FAULT, report(unary=counts(3), stream=counts(5)), WANTED, times=4)
    assert found.holds
    assert found.reasons == ()
    assert (found.requests, found.failed, found.times) == (8, 0, 4)
    assert (found.offered_per_s, found.reached_per_s) == (100.0, 4.0)
    assert (found.longest_gap_ms, found.p99_ms) == (1000.0, 1.0)


@pytest.mark.parametrize(
    ("got", "trouble", "reason"),
    [
        (report(unary=counts(2, {"InternalError: oops": 2})), "", "2 x InternalError: oops (unary)"),
        (report(50_000.0), "", "expected an answer at least every 45 s, got none for 50.0 s"),
        (report(), "it did not recover", "it did not recover"),
        (report(unary=counts(1)), "", "expected at least 2 requests, got 1"),
        (report(unary=counts(), oip=NONE), "", "expected answers on every protocol, got none on oip"),
    ],
)
def test_one_that_somebody_noticed_does_not(got: Report, trouble: str, reason: str) -> None:
    found = outcome(FAULT, got, WANTED, trouble=trouble)
    assert not found.holds
    assert found.recovered == (not trouble)
    assert found.reasons == (reason,)
    assert reason in sentence(found)


def test_clients_in_a_hurry_may_fail_but_not_late() -> None:
    in_time = replace(report(), hasty=Counts(5, 2, 0, {}, 1.0, 1.0, 1.0))
    assert outcome(FAULT, in_time, WANTED).holds
    late = replace(report(), hasty=counts(2, {"DeadlineExceededError after 3.0 s": 1}))
    assert outcome(FAULT, late, WANTED).reasons == ("1 x DeadlineExceededError after 3.0 s (in a hurry)",)


def test_clients_without_retries_may_fail_only_where_connections_break() -> None:
    refused = replace(report(), without_retries=counts(2, {"UnavailableError: gone": 1}))
    assert outcome(FAULTS["gateway-killed"], refused, WANTED).holds
    found = outcome(FAULTS["replica-killed"], refused, WANTED)
    assert (found.holds, found.failed) == (False, 1)
    assert found.reasons == ("1 x UnavailableError: gone (without retries)",)


def test_outcomes_are_written_as_json(tmp_path: Path) -> None:
    write_outcomes(tmp_path / "new" / "faults.json", [outcome(FAULT, report(), WANTED)])
    (written,) = json.loads((tmp_path / "new" / "faults.json").read_text())["faults"]
    assert {
        "name",
        "requests",
        "failed",
        "offered_per_s",
        "reached_per_s",
        "longest_gap_ms",
        "p99_ms",
    } <= written.keys()
    assert written["protocols"]["unary"]["answered"] == 2


def test_the_table_says_what_each_protocol_reached() -> None:
    drawn = table([outcome(FAULT, report(unary=counts(20), stream=counts(40)), WANTED)])
    cells = {str(column.header): list(column.cells) for column in drawn.columns}
    assert cells["fault"] == ["ray-head-killed"]
    assert (cells["offered/s"], cells["reached/s"]) == (["100"], ["30"])
    assert (cells["unary"], cells["stream"]) == (["10"], ["20"])
