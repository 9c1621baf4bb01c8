from __future__ import annotations

import gymnasium

from services.trainer.environments.environment_spaces import spaces_of
from steersman.v1.trainer_pb2 import Environment


def test_spaces() -> None:
    spaces = spaces_of(Environment(id="CartPole-v1"))
    assert isinstance(spaces.observation, gymnasium.spaces.Box)
    assert isinstance(spaces.action, gymnasium.spaces.Discrete)
