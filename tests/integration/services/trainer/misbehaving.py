"""Environments that misbehave; importing this module registers them."""

from __future__ import annotations

import os
import time
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

_FOR_EVER = 3600.0

Observation = npt.NDArray[np.float32]


class Misbehaving(gymnasium.Env[Observation, np.int64]):
    """Misbehaves once, at the given place.

    Args:
        where: "init", "reset" or "step".
        how: "raise", "hang" or "crash".
        after: How many resets or steps go well before.
    """

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, where: str, how: str, after: int = 0) -> None:
        self._where, self._how, self._left = where, how, after
        self._come("init")

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self._steps = 0
        self._come("reset")
        return self._observation(), {}

    def step(self, action: np.int64) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        self._come("step")
        self._steps += 1
        return self._observation(), 1.0, self._steps >= 10, False, {}

    def _observation(self) -> Observation:
        return np.zeros(2, np.float32)

    def _come(self, where: str) -> None:
        if where != self._where:
            return
        if self._left > 0:
            self._left -= 1
        elif self._how == "raise":
            raise RuntimeError("the mast broke")
        elif self._how == "hang":
            time.sleep(_FOR_EVER)
        else:
            os._exit(3)


gymnasium.register("Misbehaving-v0", entry_point=f"{__name__}:Misbehaving")
