"""The environment's own rewards, where wrappers may have changed them.

A wrapper that clips or shapes rewards helps training; a return is what the environment itself gave. One that repeats
actions takes several steps of the environment in each of its own, whose rewards add up.
"""

from __future__ import annotations

from typing import Any, SupportsFloat

import gymnasium

RAW_REWARD = "steersman/raw_reward"
"""Where in a step's information the environment's own reward is, if it need not be the step's."""


class RewardMeter(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Adds up rewards, right around the environment.

    Attributes:
        total: The sum since it was made.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self.total = 0.0

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:  # noqa: ANN401 - its own type
        """Takes a step."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.total += float(reward)
        return observation, reward, terminated, truncated, info


class RawRewards(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Tells the environment's own reward of each step, around all wrappers.

    Args:
        env: The environment with its wrappers.
        meter: What is innermost among them.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], meter: RewardMeter) -> None:
        super().__init__(env)
        self._meter = meter

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:  # noqa: ANN401 - its own type
        """Takes a step."""
        # What a wrapper does in a reset, such as steps without an action, is before this.
        before = self._meter.total
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, terminated, truncated, {**info, RAW_REWARD: self._meter.total - before}
