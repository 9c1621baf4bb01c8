from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.evaluator.judge.fresh_seeds import fresh_seed
from steersman.v1.common_pb2 import PolicySpec, TrainedEnvironment

_EPISODES = 640


@given(st.lists(st.integers(0, 2**32), max_size=3))
def test_no_seed_is_one_that_a_training_used(trained: list[int]) -> None:
    specs = [PolicySpec(environment=TrainedEnvironment(first_seed=first)) for first in trained]
    seed = fresh_seed([*specs, PolicySpec()], _EPISODES)
    assert seed >= 2**22
    assert seed + _EPISODES <= 2**31
    for first in trained:
        assert seed + _EPISODES <= first or seed >= first + 2**20


def test_no_two_gates_play_the_same_episodes() -> None:
    seeds = {fresh_seed([], 1) for _ in range(20)}
    assert len(seeds) > 15
