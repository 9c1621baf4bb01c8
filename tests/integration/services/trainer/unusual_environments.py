"""Environments with spaces that are unusual."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

ODD = "SteersmanOdd-v0"
ANY = "SteersmanAny-v0"
IMAGES = "SteersmanImages-v0"
TEXTS = "SteersmanTexts-v0"


class Odd(gymnasium.Env[npt.NDArray[np.float64], np.int64]):
    """Rewards the action that matches the largest column sum; refuses actions outside of its space.

    Its observations are float64 with two axes, and its actions start at 3.
    """

    def __init__(self) -> None:
        self.observation_space = gymnasium.spaces.Box(-5.0, 5.0, (2, 3), np.float64)
        self.action_space = gymnasium.spaces.Discrete(3, start=3)
        self._steps = 0
        self._observation = np.zeros((2, 3))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[np.float64], dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self._steps = 0
        self._observation = self.np_random.uniform(-5.0, 5.0, (2, 3))
        return self._observation, {}

    def step(self, action: np.int64) -> tuple[npt.NDArray[np.float64], float, bool, bool, dict[str, Any]]:
        if not self.action_space.contains(action):
            raise ValueError(f"expected an action in {self.action_space}, got {action!r}")
        reward = float(int(action) - 3 == int(self._observation.sum(axis=0).argmax()))
        self._steps += 1
        self._observation = self.np_random.uniform(-5.0, 5.0, (2, 3))
        return self._observation, reward, self._steps >= 10, False, {}


class AnySpaces(gymnasium.Env[Any, Any]):
    """Emits samples of any observation space, and rewards at random; refuses actions outside of its space.

    Args:
        observation_space: What it emits.
        action_space: What it takes.
    """

    def __init__(self, observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]) -> None:
        self.observation_space, self.action_space = observation_space, action_space
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        if seed is not None:
            self.observation_space.seed(seed)
        self._steps = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:  # noqa: ANN401
        if not self.action_space.contains(action):
            raise ValueError(f"expected an action in {self.action_space}, got {action!r}")
        self._steps += 1
        reward = float(self.np_random.normal())
        return self.observation_space.sample(), reward, self._steps >= 12, False, {}


def register() -> None:
    """Makes the environments known to Gymnasium in this process."""
    if ODD not in gymnasium.registry:
        gymnasium.register(ODD, entry_point=lambda **_: Odd())
        images = gymnasium.spaces.Box(0, 255, (42, 42, 1), np.uint8)
        choice: gymnasium.Space[Any] = gymnasium.spaces.Discrete(3)
        gymnasium.register(IMAGES, entry_point=lambda **_: AnySpaces(images, choice))
        gymnasium.register(TEXTS, entry_point=lambda **_: AnySpaces(gymnasium.spaces.Text(5), choice))
        gymnasium.register(ANY, entry_point=lambda **spaces: AnySpaces(**spaces))
