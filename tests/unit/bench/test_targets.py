import pytest

from bench.results import Row
from bench.targets import Target, holds, value

ROWS = [
    Row("serve", "unary-32", "floor", "actions_per_s", 1000, 900, 1100, 3),
    Row("serve", "unary-32", "steersman", "actions_per_s", 850, 800, 870, 3),
    Row("serve", "unary-32", "serve-grpc", "actions_per_s", 0, 0, 0, 3),
    Row("serve", "unary-1", "floor", "p50_ms", 0.5, 0.4, 0.6, 3),
    Row("serve", "unary-1", "steersman", "p50_ms", 0.9, 0.8, 1.0, 3),
    Row("serve", "gateway", "steersman", "rss_mb", 90, 80, 100, 3),
]


@pytest.mark.parametrize(
    ("target", "expected", "verdict"),
    [
        (Target("unary-32", "actions_per_s", "floor", 0.8), 0.85, True),
        (Target("unary-32", "actions_per_s", "floor", 0.9), 0.85, False),
        (Target("unary-1", "p50_ms", "floor", 1.6, at_least=False), 1.8, False),
        (Target("unary-1", "p50_ms", "floor", 1.8, at_least=False), 1.8, True),
        (Target("unary-1", "p50_ms", "serve-grpc", 0.2, at_least=False), None, None),
        (Target("unary-32", "actions_per_s", "serve-grpc", 8.0), None, None),
        (Target("gateway", "rss_mb", None, 120.0, at_least=False), 90.0, True),
        (Target("gateway", "rss_mb", None, 80.0, at_least=False), 90.0, False),
        (Target("gateway", "ready_s", None, 1.5, at_least=False), None, None),
    ],
)
def test_targets_are_judged_by_ratios_or_by_the_number_itself(
    target: Target, expected: float | None, verdict: bool | None
) -> None:
    assert value(ROWS, target) == (None if expected is None else pytest.approx(expected))
    assert holds(ROWS, target) is verdict
