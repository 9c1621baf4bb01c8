"""The environment: keep to a course while the wind pushes the bow away."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

PORT, AHEAD, STARBOARD = 0, 1, 2

Observation = npt.NDArray[np.float32]


class Boat(gymnasium.Env[Observation, np.int64]):
    """A boat that is to keep its course.

    Observations are the heading, in radians off the course, and how fast it turns, in radians a step. Actions put the
    rudder to port, ahead or to starboard. Each step is worth 0.2 while the boat is within a tenth of a radian of its
    course, so 10 is the most in an episode of 50 steps; one that has turned right round has ended.

    Args:
        wind: How hard the wind pushes, in radians a step.
    """

    def __init__(self, wind: float = 0.02) -> None:
        limits = np.array([np.pi, 1.0], np.float32)
        self.observation_space = gymnasium.spaces.Box(-limits, limits)
        self.action_space = gymnasium.spaces.Discrete(3)
        self._wind = wind
        self._heading, self._turning = 0.0, 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Puts the boat off its course."""
        super().reset(seed=seed, options=options)
        self._heading, self._turning = self.np_random.uniform(-0.5, 0.5), 0.0
        return self._observation(), {}

    def step(self, action: np.int64) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Steers for one step."""
        rudder = 0.05 * (int(action) - AHEAD)
        push = self.np_random.normal(0.0, self._wind)
        self._turning = float(np.clip(0.7 * self._turning + rudder + push, -1.0, 1.0))
        self._heading += self._turning
        is_round = abs(self._heading) > np.pi
        reward = 0.2 if abs(self._heading) < 0.1 else 0.0
        return self._observation(), reward, is_round, False, {}

    def _observation(self) -> Observation:
        return np.array([np.clip(self._heading, -np.pi, np.pi), self._turning], np.float32)
