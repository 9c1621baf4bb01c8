from __future__ import annotations

import gymnasium
import pytest

from services.trainer.environments import spaces_of
from steersman.errors import InvalidArgumentError


def test_spaces() -> None:
    observation_space, action_space = spaces_of("CartPole-v1", {})
    assert isinstance(observation_space, gymnasium.spaces.Box)
    assert isinstance(action_space, gymnasium.spaces.Discrete)


def test_arguments_reach_the_environment() -> None:
    assert spaces_of("Pendulum-v1", {"g": 1})
    with pytest.raises(InvalidArgumentError, match=r"CartPole-v1 takes, got \{'gravity': 1\}"):
        spaces_of("CartPole-v1", {"gravity": 1})


def test_unknown_environment_names_near_matches() -> None:
    with pytest.raises(InvalidArgumentError, match=r"got 'Cartpole-v1'; near matches: .*CartPole-v1"):
        spaces_of("Cartpole-v1", {})


def test_no_module_is_imported_on_request() -> None:
    with pytest.raises(InvalidArgumentError, match="registered"):
        spaces_of("this:CartPole-v1", {})
