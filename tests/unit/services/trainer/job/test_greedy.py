from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from services.common.bundle import Bundle
from services.trainer.job import greedy
from services.trainer.job.evaluation_settings import complete_evaluation
from steersman.v1.trainer_pb2 import Environment, RunEvaluation
from tests import endless
from tests.bundles import write_linear_bundle, write_recurrent_bundle

ENVIRONMENT = Environment(id="CartPole-v1")


class Ones(gymnasium.Env[Any, Any]):
    """Shows ones for as many steps as the seed says, and rewards with the action."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(10)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self._left = seed or 0
        return np.ones(1, np.float32), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._left -= 1
        return np.ones(1, np.float32), float(action), self._left <= 0, False, {}


gymnasium.register("Ones-v0", entry_point=f"{__name__}:Ones")
CORRIDOR = Environment(id=f"{endless.__name__}:Corridor-v0")


def evaluation(episodes: int, **given: float) -> RunEvaluation:
    return complete_evaluation(RunEvaluation(episodes=episodes, **given))  # type: ignore[arg-type] # by name


def test_every_episode_counts_and_seeds_decide(tmp_path: Path) -> None:
    bundle = write_linear_bundle(tmp_path)
    played = greedy.play(bundle, ENVIRONMENT, evaluation(6), seed=5)
    assert played.returns.shape == (6,)
    assert (played.returns > 0).all()
    assert not played.unfinished
    np.testing.assert_array_equal(greedy.play(bundle, ENVIRONMENT, evaluation(6), seed=5).returns, played.returns)
    # Episode i has the seed 5 + i, whoever plays beside it.
    others = greedy.play(bundle, ENVIRONMENT, evaluation(2), seed=8)
    np.testing.assert_array_equal(others.returns, played.returns[3:5])


@pytest.mark.parametrize("environments", [1, 2, 4])
def test_the_number_of_environments_changes_nothing(tmp_path: Path, environments: int) -> None:
    bundle = write_linear_bundle(tmp_path)
    expected = greedy.play(bundle, ENVIRONMENT, evaluation(6), seed=5)
    got = greedy.play(bundle, ENVIRONMENT, evaluation(6, num_environments=environments), seed=5)
    np.testing.assert_array_equal(got.returns, expected.returns)


@pytest.mark.parametrize("environments", [1, 2, 5])
def test_each_episode_has_a_state_of_its_own(tmp_path: Path, environments: int) -> None:
    """The policy's action is the sum of what the episode has shown; its reward is the action."""
    bundle = write_recurrent_bundle(tmp_path)
    given = evaluation(5, num_environments=environments)
    played = greedy.play(bundle, Environment(id="Ones-v0"), given, seed=1)
    assert played.returns.tolist() == [1, 3, 6, 10, 15]


def test_episodes_without_an_end_are_cut_and_counted(tmp_path: Path) -> None:
    """A greedy policy that stands still (stable-baselines#876)."""
    bundle = _left(tmp_path)
    played = greedy.play(bundle, CORRIDOR, evaluation(3, longest_episode_steps=70), seed=0)
    assert played.returns.tolist() == [0.0, 0.0, 0.0]
    assert played.unfinished == 3


def test_an_episode_that_the_environment_truncates_itself_is_not_cut(tmp_path: Path) -> None:
    itself = Environment(id=f"{endless.__name__}:CorridorTruncating-v0")
    assert not greedy.play(_left(tmp_path), itself, evaluation(3, longest_episode_steps=70), seed=0).unfinished


def test_episodes_that_are_not_begun_in_time_are_unfinished_too(tmp_path: Path) -> None:
    played = greedy.play(_left(tmp_path), CORRIDOR, evaluation(5, num_environments=2, longest_seconds=0.05), seed=0)
    assert len(played.returns) == 2
    assert played.unfinished == 5


def test_a_run_that_is_to_stop_ends_its_evaluation(tmp_path: Path) -> None:
    asked = []

    def stops() -> bool:
        asked.append(True)
        return len(asked) == 2

    assert greedy.play(_left(tmp_path), CORRIDOR, evaluation(2), 0, stops).unfinished == 2
    assert len(asked) == 2


def _left(folder: Path) -> Bundle:
    """A policy that never takes another action than the first one where it sees zeros."""
    return write_linear_bundle(folder, observation_size=1)
