from bench.loads import LOADS
from bench.oip_section import TARGETS


def test_the_targets_are_unary_and_streamed_at_three_concurrencies() -> None:
    loads = [LOADS[target.load] for target in TARGETS]
    assert {(load.kind, load.concurrency) for load in loads} == {
        (kind, concurrency) for kind in ("unary", "stream") for concurrency in (1, 32, 128)
    }
    assert {(target.ours, target.against, target.bound) for target in TARGETS} == {("oip", "steersman", 0.9)}
