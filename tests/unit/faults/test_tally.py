import json
from dataclasses import asdict

from faults.tally import Report, Tally, read_report


def test_a_gap_is_the_longest_time_between_two_answers() -> None:
    tally = Tally()
    for asked, now in ((0.0, 1.0), (0.5, 1.5), (1.0, 4.0), (4.0, 4.5)):
        tally.answer(asked, now)
    counts = tally.counts()
    assert counts.answered == 4
    assert counts.longest_gap_ms == 2500.0
    assert counts.slowest_ms == 3000.0


def test_without_answers_there_is_neither_a_gap_nor_a_latency() -> None:
    counts = Tally(sent=3).counts()
    assert (counts.sent, counts.answered, counts.failed) == (3, 0, 0)
    assert (counts.slowest_ms, counts.p99_ms, counts.longest_gap_ms) == (0.0, 0.0, 0.0)


def test_failures_are_counted_by_what_was_said() -> None:
    tally = Tally(sent=3)
    tally.failures.update(["rare", "frequent", "frequent"])
    assert list(tally.counts().failures.items()) == [("frequent", 2), ("rare", 1)]
    assert tally.counts().failed == 3


def test_a_report_survives_its_way_through_json() -> None:
    counts = Tally(sent=1).counts()
    report = Report(1.5, 0.5, 2.0, 3.0, {"unary": counts, "stream": counts}, counts, counts)
    assert read_report(json.loads(json.dumps(asdict(report)))) == report
