from typing import Any

import gymnasium
import numpy as np
import pytest

from services.evaluator.episodes import Episode, Rollout
from steersman.errors import FailedPreconditionError


class Countdown(gymnasium.Env[Any, Any]):
    """Ends after as many steps as the seed says; each step rewards with the action."""

    observation_space = gymnasium.spaces.Box(0, 1000, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(3)

    def __init__(self, breaks_at: int | None = None, time_limit: int = 1000) -> None:
        self.seeds: list[int] = []
        self._breaks_at, self._time_limit = breaks_at, time_limit

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        assert seed is not None
        self.seeds.append(seed)
        self._left, self._steps = seed, 0
        return np.array([self._left], np.float32), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._left -= 1
        self._steps += 1
        if self._steps == self._breaks_at:
            raise RuntimeError("broken")
        truncated = self._steps >= self._time_limit
        return np.array([self._left], np.float32), float(action), self._left <= 0, truncated, {}


async def always_two(observations: np.ndarray) -> np.ndarray:
    return np.full(len(observations), 2)


async def play(environments: list[Countdown], episodes: int, seed: int = 1) -> tuple[list[Episode], int]:
    rollout = Rollout(environments, episodes, seed)
    async for _ in rollout.play(always_two):
        pass
    return rollout.episodes, rollout.steps


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

    async def act(observations: np.ndarray) -> np.ndarray:
        sizes.append(len(observations))
        return np.zeros(len(observations))

    async for _ in Rollout([Countdown() for _ in range(3)], 3, 1).play(act):
        pass
    assert sizes == [3, 2, 1]
