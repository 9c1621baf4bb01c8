"""The environment's own rewards, where wrappers may have changed them.

A wrapper that clips or shapes rewards helps training; a return is what the environment itself gave. One that repeats
actions takes several steps of the environment in each of its own, whose rewards add up.
"""

from __future__ import annotations

from typing import Any, SupportsFloat

import gymnasium
import numpy as np

from steersman.environments.checked import UnsoundEnvironmentError, one_number

RAW_REWARD = "steersman/raw_reward"
"""Where in a step's information the environment's own reward is, if it need not be the step's."""

RAW_RETURN = "steersman/raw_return"
"""Where in the information of an episode's last step the sum of the environment's own rewards is, likewise."""


class RewardMeter(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Adds up rewards, right around the environment, and lets no action through that wrappers have made NaN.

    Args:
        env: The environment.
        name: What errors call it.

    Attributes:
        total: The sum since it was made.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], name: str) -> None:
        super().__init__(env)
        self._name = name
        self._takes_floats = isinstance(env.action_space, gymnasium.spaces.Box)
        self.total = 0.0

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:  # noqa: ANN401 - its own type
        """Takes a step.

        Raises:
            UnsoundEnvironmentError: If the action has NaN in it, or the reward is not one finite number.
        """
        if self._takes_floats and np.isnan(action).any():
            raise UnsoundEnvironmentError(
                f"expected wrappers of {self._name} that hand on actions in {self.env.action_space}, got {action} from "
                "them; check how they rescale actions"
            )
        observation, reward, terminated, truncated, info = self.env.step(action)
        number = one_number(reward, self._name)
        self.total += number
        return observation, number, terminated, truncated, info


class RawRewards(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Tells the environment's own rewards of each step and each episode, around all wrappers.

    Args:
        env: The environment with its wrappers.
        meter: What is innermost among them.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], meter: RewardMeter) -> None:
        super().__init__(env)
        self._meter = meter
        self._begin = 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begins an episode."""
        given = self.env.reset(seed=seed, options=options)
        # What a wrapper does in a reset, such as steps without an action, is before this.
        self._begin = self._meter.total
        return given

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:  # noqa: ANN401 - its own type
        """Takes a step."""
        before = self._meter.total
        observation, reward, terminated, truncated, info = self.env.step(action)
        told = {**info, RAW_REWARD: self._meter.total - before}
        if terminated or truncated:
            told[RAW_RETURN] = self._meter.total - self._begin
        return observation, reward, terminated, truncated, told
