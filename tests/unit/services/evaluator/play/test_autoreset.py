"""Episodes are those of Gymnasium's vector environments in each of their autoreset modes, return for return."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics

from services.common.episodes import Rollout, Step
from tests.seeded import Seeded

_ENVIRONMENTS = 3
_EPISODES = 12
_SEED = 5
_LIMIT = 45
_ANGLE = np.array([0.0, 0.0, 1.0, 0.0])


def actions(observations: Any) -> Any:  # noqa: ANN401 - one action for each observation
    return (np.asarray(observations) @ _ANGLE > 0).astype(np.int64)


def vector_environment(mode: AutoresetMode) -> VectorEnv[Any, Any, Any]:
    """Makes one whose environment k plays episodes k, k + 3, k + 6 and so on, as the evaluator's do."""

    def maker(index: int) -> Callable[[], gymnasium.Env[Any, Any]]:
        seeds = range(_SEED + index, _SEED + _EPISODES, _ENVIRONMENTS)
        return lambda: Seeded(gymnasium.make("CartPole-v1", max_episode_steps=_LIMIT), seeds)

    return SyncVectorEnv([maker(index) for index in range(_ENVIRONMENTS)], autoreset_mode=mode)


def counted_by_hand(mode: AutoresetMode) -> list[list[tuple[float, int]]]:
    """Gives returns and lengths of each environment's episodes, counted as the mode wants it."""
    environments = vector_environment(mode)
    quota = _EPISODES // _ENVIRONMENTS
    episodes: list[list[tuple[float, int]]] = [[] for _ in range(_ENVIRONMENTS)]
    returns, lengths = np.zeros(_ENVIRONMENTS), np.zeros(_ENVIRONMENTS, int)
    resets = np.zeros(_ENVIRONMENTS, bool)
    observations, _ = environments.reset()
    while min(map(len, episodes)) < quota:
        observations, rewards, terminated, truncated, _ = environments.step(actions(observations))
        done = terminated | truncated
        for index in range(_ENVIRONMENTS):
            if mode is AutoresetMode.NEXT_STEP and resets[index]:
                # This step was a reset: its reward is of no episode.
                continue
            returns[index] += rewards[index]
            lengths[index] += 1
            if done[index]:
                episodes[index].append((float(returns[index]), int(lengths[index])))
                returns[index], lengths[index] = 0.0, 0
        resets = done
        if mode is AutoresetMode.DISABLED and done.any():
            observations, _ = environments.reset(options={"reset_mask": done})
    environments.close()
    return [of[:quota] for of in episodes]


async def counted_by_the_evaluator() -> list[list[tuple[float, int]]]:
    async def act(step: Step) -> Any:  # noqa: ANN401 - one action for each observation
        return actions(step.observations)

    environments = [gymnasium.make("CartPole-v1", max_episode_steps=_LIMIT) for _ in range(_ENVIRONMENTS)]
    rollout = Rollout(environments, range(_EPISODES), _SEED)
    async for _ in rollout.play(act):
        pass
    ordered = sorted(rollout.episodes, key=lambda episode: episode.number)
    rows = [(episode.episode_return, episode.length) for episode in ordered]
    return [rows[index::_ENVIRONMENTS] for index in range(_ENVIRONMENTS)]


@pytest.mark.parametrize("mode", list(AutoresetMode))
async def test_episodes_are_those_of_vector_environments(mode: AutoresetMode) -> None:
    expected = counted_by_hand(mode)
    assert await counted_by_the_evaluator() == expected
    lengths = {length for of in expected for _, length in of}
    assert _LIMIT in lengths, "one that is truncated"
    assert min(lengths) < _LIMIT, "and one that is terminated"


@pytest.mark.parametrize(("mode", "right"), [(AutoresetMode.NEXT_STEP, True), (AutoresetMode.SAME_STEP, False)])
async def test_gymnasiums_own_statistics_are_not_to_be_used(mode: AutoresetMode, right: bool) -> None:
    """They lose the first step of all but the first episode under SAME_STEP, in the version that is pinned."""
    environments = RecordEpisodeStatistics(vector_environment(mode))
    quota = _EPISODES // _ENVIRONMENTS
    episodes: list[list[tuple[float, int]]] = [[] for _ in range(_ENVIRONMENTS)]
    observations, _ = environments.reset()
    while min(map(len, episodes)) < quota:
        observations, _, _, _, information = environments.step(actions(observations))
        # Under SAME_STEP what is known of an episode's end is kept apart from the next one's beginning.
        for index in np.flatnonzero(information.get("_episode", np.zeros(_ENVIRONMENTS, bool))):
            told = information["episode"]
            episodes[index].append((float(told["r"][index]), int(told["l"][index])))
    environments.close()
    assert ([of[:quota] for of in episodes] == await counted_by_the_evaluator()) is right
