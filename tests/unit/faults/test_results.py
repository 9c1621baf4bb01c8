import json
from pathlib import Path

import pytest

from faults.catalogue import FAULTS
from faults.load import Load, Tally
from faults.results import outcome, write_outcomes

FAULT = FAULTS["ray-head-killed"]


def load(answered: list[float], failures: dict[str, int] | None = None) -> Load:
    made = Load("steady", "127.0.0.1:1")
    made.tally = Tally(len(answered), answered=answered, latencies=[0.001] * len(answered))
    made.tally.failures.update(failures or {})
    return made


def test_a_gap_is_the_longest_time_without_an_answer_whatever_order_they_came_in() -> None:
    assert load([4.0, 1.0, 1.5, 2.0]).tally.longest_gap == 2.0
    assert Tally().longest_gap == 0.0


def test_a_fault_that_nobody_noticed_holds() -> None:
    found = outcome(FAULT, load([0.0, 1.0, 2.0]), 2.0)
    assert (found.holds, found.failed, found.longest_gap_ms, found.p99_ms) == (True, 0, 1000.0, 1.0)


@pytest.mark.parametrize(
    ("tally", "trouble", "reason"),
    [
        (load([0.0, 1.0], {"InternalError: oops": 2}), "", "2 x InternalError: oops"),
        (load([0.0, 50.0]), "", "expected an answer at least every 45 s, got none for 50.0 s"),
        (load([0.0, 1.0]), "it did not recover", "it did not recover"),
    ],
)
def test_one_that_somebody_noticed_does_not(tally: Load, trouble: str, reason: str) -> None:
    found = outcome(FAULT, tally, 2.0, trouble)
    assert not found.holds
    assert found.reasons == (reason,)


def test_statuses_in_time_are_what_hasty_clients_asked_for() -> None:
    hasty = load([0.0, 1.0])
    hasty.hasty.requests = 3
    found = outcome(FAULT, hasty, 2.0)
    assert (found.holds, found.requests) == (True, 5)


def test_outcomes_are_written_as_json(tmp_path: Path) -> None:
    write_outcomes(tmp_path / "new" / "faults.json", [outcome(FAULT, load([0.0, 1.0]), 2.0)])
    (written,) = json.loads((tmp_path / "new" / "faults.json").read_text())["faults"]
    assert {"name", "requests", "failed", "longest_gap_ms", "p99_ms"} <= written.keys()
