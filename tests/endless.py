"""Environments whose episodes do not end, or not while anybody trains; importing this registers them."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box, Discrete

Observation = npt.NDArray[np.float32]


class Corridor(gymnasium.Env[Observation, int]):
    """The door is on the right. Whoever goes left stays where they are, for ever: no step costs or gives anything.

    Args:
        length: Steps to the door.
        own_limit: Steps after which the environment itself says `truncated`; 0 for never. There is no TimeLimit.
    """

    def __init__(self, length: int = 12, own_limit: int = 0) -> None:
        self.observation_space, self.action_space = Box(0.0, 1.0, (1,), np.float32), Discrete(2)
        self._length, self._limit = length, own_limit

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        super().reset(seed=seed)
        self._place, self._steps = 0, 0
        return np.zeros(1, np.float32), {}

    def step(self, action: int) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        self._place = max(0, self._place + (1 if int(action) else -1))
        there = self._place >= self._length
        seen = np.array([min(1.0, self._place / self._length)], np.float32)
        return seen, float(there), there, bool(self._limit) and self._steps >= self._limit, {}


class Marathon(gymnasium.Env[Observation, int]):
    """Running is worth 1 a step, resting nothing.

    Args:
        length: Steps of an episode. It ends by itself (`terminated`), there is no time limit around it.
    """

    def __init__(self, length: int = 5000) -> None:
        self.observation_space, self.action_space = Box(0.0, 1.0, (1,), np.float32), Discrete(2)
        self._length = length

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        super().reset(seed=seed)
        self._steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: int) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        share = np.array([min(1.0, self._steps / self._length)], np.float32)
        return share, float(action), self._steps >= self._length, False, {}


gymnasium.register("Corridor-v0", entry_point="tests.endless:Corridor")
gymnasium.register("CorridorTruncating-v0", entry_point="tests.endless:Corridor", kwargs={"own_limit": 50})
gymnasium.register("Marathon-v0", entry_point="tests.endless:Marathon")
