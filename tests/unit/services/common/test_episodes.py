import asyncio
from typing import Any

import gymnasium
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.episodes import Episode, Limits, Rollout, Step
from steersman.errors import FailedPreconditionError


class Countdown(gymnasium.Env[Any, Any]):
    """Ends after as many steps as the seed says, or as `lengths` says for it; each step rewards with the action."""

    observation_space = gymnasium.spaces.Box(0, 1000, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(3)

    def __init__(
        self,
        breaks_at: int | None = None,
        time_limit: int = 1000,
        lengths: list[int] | None = None,
    ) -> None:
        self.seeds: list[int] = []
        self._breaks_at, self._time_limit, self._lengths = breaks_at, time_limit, lengths

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        assert seed is not None
        self.seeds.append(seed)
        self._left, self._steps = self._lengths[seed] if self._lengths else seed, 0
        return np.array([self._left], np.float32), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._left -= 1
        self._steps += 1
        if self._steps == self._breaks_at:
            raise RuntimeError("broken")
        truncated = self._steps >= self._time_limit
        return np.array([self._left], np.float32), float(action), self._left <= 0, truncated, {}


async def always_two(step: Step) -> np.ndarray:
    return np.full(len(step.observations), 2)


async def play(environments: list[Countdown], episodes: int, seed: int = 1) -> tuple[list[Episode], int]:
    rollout = Rollout(environments, range(episodes), seed)
    async for _ in rollout.play(always_two):
        pass
    return in_order(rollout), rollout.steps


def in_order(rollout: Rollout) -> list[Episode]:
    return sorted(rollout.episodes, key=lambda episode: episode.number)


async def test_every_episode_is_played_once_with_its_own_seed() -> None:
    environments = [Countdown() for _ in range(3)]
    episodes, steps = await play(environments, 7)
    assert [episode.number for episode in episodes] == list(range(7))
    assert [episode.seed for episode in episodes] == list(range(1, 8))
    assert [episode.length for episode in episodes] == list(range(1, 8))
    assert [episode.episode_return for episode in episodes] == [2.0 * length for length in range(1, 8)]
    assert steps == sum(range(1, 8))
    assert all(episode.terminated and not episode.truncated for episode in episodes)


async def test_short_episodes_are_not_favoured() -> None:
    """Environment 0 has all the short episodes; it must not play those of the others when it is done."""
    environments = [Countdown() for _ in range(2)]
    await play(environments, 4, seed=1)
    assert [environment.seeds for environment in environments] == [[1, 3], [2, 4]]


@pytest.mark.parametrize("count", [1, 2, 5])
async def test_the_number_of_environments_changes_nothing(count: int) -> None:
    assert await play([Countdown() for _ in range(count)], 5) == await play([Countdown()], 5)


async def test_truncated_is_kept_apart_from_terminated() -> None:
    episodes, _ = await play([Countdown(time_limit=3)], 4)
    assert [(episode.terminated, episode.truncated) for episode in episodes] == [
        (True, False),
        (True, False),
        (True, True),
        (False, True),
    ]


async def test_an_environment_that_raises_is_named() -> None:
    with pytest.raises(FailedPreconditionError, match="the environment raised RuntimeError: broken"):
        await play([Countdown(breaks_at=3)], 5)


async def test_only_environments_that_still_play_are_asked_for() -> None:
    sizes: list[int] = []

    async def act(step: Step) -> np.ndarray:
        sizes.append(len(step.observations))
        assert step.begins.shape == step.rewards.shape == (len(step.observations),)
        return np.zeros(len(step.observations))

    async for _ in Rollout([Countdown() for _ in range(3)], range(3), 1).play(act):
        pass
    assert sizes == [3, 2, 1]


async def test_rows_are_kept_for_policies_with_memory() -> None:
    """Each row stays its environment's, and tells when that begins an episode."""
    asked: list[tuple[list[float], list[bool]]] = []

    async def act(step: Step) -> np.ndarray:
        asked.append(([observation[0] for observation in step.observations], step.begins.tolist()))
        return np.zeros(len(step.observations))

    rollout = Rollout([Countdown() for _ in range(2)], range(3), 1, keep_rows=True)
    async for _ in rollout.play(act):
        pass
    # Environment 0 plays the episodes of 1 and 3 steps, environment 1 that of 2.
    assert asked == [
        ([1, 2], [True, True]),
        ([3, 1], [True, False]),
        ([2, 0], [False, False]),
        ([1, 0], [False, False]),
    ]
    assert [episode.length for episode in in_order(rollout)] == [1, 2, 3]


async def test_the_reward_of_the_step_before_is_told() -> None:
    """It is 0 where an episode begins, whatever the last step of the episode before was rewarded with."""
    asked: list[list[float]] = []

    async def act(step: Step) -> np.ndarray:
        assert step.rewards.dtype == np.float32
        asked.append(step.rewards.tolist())
        return np.array([len(asked) * 10 + row for row in range(len(step.observations))])

    async for _ in Rollout([Countdown() for _ in range(2)], range(3), 1, keep_rows=True).play(act):
        pass
    # Environment 0 plays the episodes of 1 and 3 steps, environment 1 that of 2.
    assert [row[0] for row in asked] == [0, 0, 20, 30]
    assert [row[1] for row in asked][:2] == [0, 11]


@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=12),
    count=st.integers(1, 12),
    keep_rows=st.booleans(),
)
@settings(deadline=None, max_examples=25)
def test_whatever_the_lengths_every_episode_is_there_once(lengths: list[int], count: int, keep_rows: bool) -> None:
    environments = [Countdown(lengths=lengths) for _ in range(min(count, len(lengths)))]
    rollout = Rollout(environments, range(len(lengths)), 0, keep_rows=keep_rows)

    async def play_all() -> None:
        async for _ in rollout.play(always_two):
            pass

    asyncio.run(play_all())
    assert [episode.number for episode in in_order(rollout)] == list(range(len(lengths)))
    assert [episode.length for episode in in_order(rollout)] == lengths
    assert rollout.steps == sum(lengths)


async def test_before_each_reset_and_step_there_is_a_pulse() -> None:
    pulses = 0

    def pulse() -> None:
        nonlocal pulses
        pulses += 1

    async for _ in Rollout([Countdown()], range(2), 1, pulse=pulse).play(always_two):
        pass
    assert pulses == 1 + 3, "the first reset, and the steps of both episodes"


async def test_only_numbers_that_are_given_are_played() -> None:
    rollout = Rollout([Countdown() for _ in range(2)], range(1, 10, 3), 1)
    async for _ in rollout.play(always_two):
        pass
    assert [(episode.number, episode.seed) for episode in in_order(rollout)] == [(1, 2), (4, 5), (7, 8)]


@pytest.mark.parametrize(
    ("info", "success"), [({"is_success": True}, True), ({"success": np.False_}, False), ({"other": 1}, None)]
)
async def test_success_is_what_the_last_step_says(info: dict[str, Any], success: bool | None) -> None:
    class Telling(Countdown):
        def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            observation, reward, terminated, truncated, _ = super().step(action)
            return observation, reward, terminated, truncated, info if terminated else {"success": "too early"}

    (episode,), _ = await play([Telling()], 1, seed=2)
    assert episode.success is success


async def limited(limits: Limits, environments: int, episodes: int, *, keep_rows: bool = False) -> Rollout:
    rollout = Rollout(
        [Countdown() for _ in range(environments)], range(episodes), 1, limits=limits, keep_rows=keep_rows
    )
    async for _ in rollout.play(always_two):
        pass
    return rollout


@pytest.mark.parametrize("keep_rows", [False, True])
async def test_episodes_are_cut_at_their_longest(keep_rows: bool) -> None:
    episodes = in_order(await limited(Limits(steps=3), 2, 5, keep_rows=keep_rows))
    assert [episode.length for episode in episodes] == [1, 2, 3, 3, 3]
    assert [episode.cut for episode in episodes] == [False, False, False, True, True], "the third ended by itself"
    assert [episode.terminated for episode in episodes] == [True, True, True, False, False]
    assert not any(episode.truncated for episode in episodes)
    assert [episode.episode_return for episode in episodes] == [2.0, 4.0, 6.0, 6.0, 6.0]


async def test_when_the_time_is_over_episodes_are_cut_and_no_others_begun() -> None:
    rollout = await limited(Limits(seconds=1e-9), 2, 9)
    # Episode 0 ended with that step; the next one of its environment has not had any.
    assert [(episode.number, episode.length, episode.cut) for episode in in_order(rollout)] == [
        (0, 1, False),
        (1, 1, True),
    ]
    assert rollout.asks() is None


async def test_the_longest_episode_in_progress_is_known() -> None:
    rollout = Rollout([Countdown() for _ in range(2)], range(4), 1)
    rollout.begin()
    assert rollout.longest[1] == 0
    for _ in range(2):
        step = rollout.asks()
        assert step is not None
        rollout.take(np.zeros(len(step.observations)))
    # Environment 0 has ended its first episode after a step, environment 1 its own after two.
    assert rollout.longest == (2, 1)
