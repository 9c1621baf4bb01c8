"""Environments for evaluations; importing this module registers them, in the evaluator's workers as well."""

from __future__ import annotations

import os
import time
from typing import Any

import gymnasium
import numpy as np

import tests.endless  # noqa: F401 - it registers environments too

_FOR_EVER = 3600.0


class Summing(gymnasium.Env[Any, Any]):
    """Shows 1, 2, 3, ... and rewards an action with 1 if it is the sum of all that was shown in the episode."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        assert seed is not None
        self._length, self._shown, self._sum = 2 + seed % 4, 1, 1
        return np.array([1], np.float32), {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward = float(action[0] == self._sum)
        self._shown += 1
        self._sum += self._shown
        ended = self._shown > self._length
        return np.array([self._shown], np.float32), reward, ended, False, {"is_success": reward == 1} if ended else {}


class Misbehaving(gymnasium.Env[Any, Any]):
    """Has CartPole's spaces and episodes of two steps; misbehaves in those whose seed is at least `since`."""

    observation_space = gymnasium.make("CartPole-v1").observation_space
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, how: str, since: int = 0) -> None:
        self._how, self._since = how, since

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        assert seed is not None
        self._misbehaves, self._steps = seed >= self._since, 0
        return np.zeros(4, np.float32), {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        if self._misbehaves:
            if self._how == "raise":
                raise RuntimeError("out of order")
            if self._how == "crash":
                os._exit(3)
            time.sleep(_FOR_EVER)
        return np.zeros(4, np.float32), 1.0, self._steps == 2, False, {}


class Blind(Misbehaving):
    """Has nothing to show."""

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__("", since=2**62)

    def render(self) -> None:
        return None


gymnasium.register("Blind-v0", f"{__name__}:Blind")
gymnasium.register("Summing-v0", f"{__name__}:Summing")
gymnasium.register("Misbehaving-v0", f"{__name__}:Misbehaving")
