from bench.evaluate_section import LOAD, SECTION, TARGETS, run
from bench.plan import Plan


def test_its_targets_are_half_of_in_process_and_twenty_times_http() -> None:
    assert {(target.load, target.metric, target.against, target.bound) for target in TARGETS} == {
        (LOAD, "steps_per_s", "in-process", 0.6),
        (LOAD, "steps_per_s", "http", 20.0),
    }


def test_only_what_is_planned_is_measured() -> None:
    (row,) = run(Plan(1, 0.1, frozenset({"in-process"})), lambda _: None)
    assert (row.section, row.load, row.system, row.metric) == (SECTION, LOAD, "in-process", "steps_per_s")
    assert row.median > 0
    assert run(Plan(1, 0.1, loads=frozenset({"other"})), lambda _: None) == []
