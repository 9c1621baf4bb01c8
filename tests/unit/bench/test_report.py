from rich.console import Console

from bench.plan import Plan
from bench.report import print_report
from bench.results import Row
from bench.sections import Section
from bench.targets import Target

ROWS = [
    Row("serve", "unary-32", "floor", "actions_per_s", 1000, 900, 1100, 3),
    Row("serve", "unary-32", "steersman", "actions_per_s", 850, 800, 870, 3),
    Row("serve", "unary-32", "steersman", "cpu_s_per_1000_actions.gateway", 0.123, 0.1, 0.2, 3),
    Row("serve", "unary-32", "steersman", "rss_mb.gateway", 87, 80, 90, 3),
    Row("serve", "unary-32", "steersman", "failed_requests", 0, 0, 7, 3),
    Row("serve", "unary-32", "floor", "failed_requests", 0, 0, 0, 3),
]


def nothing(_plan: Plan, _tell: object) -> list[Row]:
    return []


def printed(*targets: Target) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        print_report(console, ROWS, Section("serve", nothing, targets, ("A note.",)))
    return capture.get()


def test_every_target_gets_a_verdict() -> None:
    text = printed(
        Target("unary-32", "actions_per_s", "floor", 0.8),
        Target("unary-32", "actions_per_s", "floor", 0.9),
        Target("unary-1", "p50_ms", "floor", 1.6, at_least=False),
    )
    verdicts = [line for line in text.splitlines() if "at least" in line or "at most" in line]
    assert len(verdicts) == 3
    assert "holds" in verdicts[0]
    assert "0.85" in verdicts[0]
    assert "missed" in verdicts[1]
    assert "not measured" in verdicts[2]


def test_costs_failures_and_notes_are_told() -> None:
    text = printed()
    assert "gateway 0.123" in text
    assert "gateway 87" in text
    assert "steersman failed up to 7 requests a turn under unary-32" in text
    assert "floor failed" not in text
    assert "A note." in text
