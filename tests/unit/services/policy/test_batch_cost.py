import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.policy.batch_cost import FULL_BATCH_SECONDS, BatchCost


def measured(own: float, each: float, sizes: list[int], max_batch_size: int = 256) -> BatchCost:
    """Estimates from batches that took exactly as long as they should."""
    cost = BatchCost(max_batch_size)
    for size in sizes:
        cost.add(size, own + each * size)
    cost.estimate()
    return cost


def test_nothing_is_known_before_the_first_batch() -> None:
    cost = BatchCost(256)
    assert (cost.batch_seconds, cost.full_seconds_per_observation) == (0.0, 0.0)


@given(
    own=st.floats(0, 1),
    each=st.floats(1e-6, 0.1),
    sizes=st.lists(st.integers(1, 256), min_size=2, max_size=50).filter(lambda sizes: max(sizes) >= 3 * min(sizes)),
)
def test_both_parts_are_found_when_batches_differ(own: float, each: float, sizes: list[int]) -> None:
    cost = measured(own, each, sizes)
    longest = max(FULL_BATCH_SECONDS, 2 * own)
    full = min(max(1.0, (longest - own) / each), 256)
    mean = sum(own + each * size for size in sizes) / len(sizes)
    assert cost.batch_seconds == pytest.approx(mean)
    assert cost.full_seconds_per_observation == pytest.approx(own / full + each, rel=1e-3, abs=1e-9)


def test_as_long_as_all_batches_are_of_one_size_a_busy_replica_is_taken_for_a_full_one() -> None:
    cost = measured(0.01, 0.0, [1] * 20)
    assert cost.full_seconds_per_observation == pytest.approx(0.01)
    assert cost.full_share(20, 20) == 1.0


def test_what_was_learned_holds_while_batches_do_not_differ() -> None:
    cost = measured(0.01, 0.001, [1, 4, 16, 64] * 5)
    learned = cost.full_seconds_per_observation
    for _ in range(200):
        for _ in range(10):
            cost.add(4, 0.01 + 0.004)
        cost.estimate()
    assert cost.full_seconds_per_observation == pytest.approx(learned, rel=0.05)


def test_small_batches_of_a_model_that_does_not_mind_large_ones_are_little_load() -> None:
    cost = measured(0.01, 0.0, [1, 2, 4, 8])
    assert cost.full_share(batches=100, observations=200) == pytest.approx(2 / 256)
    assert cost.full_share(batches=1, observations=256) == pytest.approx(1.0)


def test_what_costs_by_the_observation_is_the_same_load_in_batches_of_any_size() -> None:
    cost = measured(0.0, 0.01, [1, 2, 4, 8])
    assert cost.full_share(batches=100, observations=200) == pytest.approx(1.0)
