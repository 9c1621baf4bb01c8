import pytest

from bench.report import holds, html_report, ratio
from bench.results import Row
from bench.serve_section import Target

ROWS = [
    Row("serve", "unary-32", "floor", "actions_per_s", 1000, 900, 1100, 3),
    Row("serve", "unary-32", "steersman", "actions_per_s", 850, 800, 870, 3),
    Row("serve", "unary-1", "floor", "p50_ms", 0.5, 0.4, 0.6, 3),
    Row("serve", "unary-1", "steersman", "p50_ms", 0.9, 0.8, 1.0, 3),
]


@pytest.mark.parametrize(
    ("target", "value", "verdict"),
    [
        (Target("unary-32", "actions_per_s", "floor", 0.8), 0.85, True),
        (Target("unary-32", "actions_per_s", "floor", 0.9), 0.85, False),
        (Target("unary-1", "p50_ms", "floor", 1.6, at_least=False), 1.8, False),
        (Target("unary-1", "p50_ms", "floor", 1.8, at_least=False), 1.8, True),
        (Target("unary-1", "p50_ms", "serve-grpc", 0.2, at_least=False), None, None),
    ],
)
def test_targets_are_judged_by_ratios(target: Target, value: float | None, verdict: bool | None) -> None:
    assert ratio(ROWS, target) == (pytest.approx(value) if value else None)
    assert holds(ROWS, target) is verdict


def test_the_page_shows_every_system_and_needs_nothing_from_elsewhere() -> None:
    page = html_report(ROWS)
    for row in ROWS:
        assert row.load in page
        assert row.system in page
    assert "http://" not in page
    assert "https://" not in page
