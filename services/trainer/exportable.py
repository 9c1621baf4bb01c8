"""Which spaces can be exported, told from the spaces alone: before a run starts rather than after it has trained."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from steersman.errors import InvalidArgumentError


def check_spaces(observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]) -> None:
    """Checks that a policy with these spaces can become a bundle.

    Args:
        observation_space: What the environment emits.
        action_space: What the environment takes.

    Raises:
        InvalidArgumentError: Unless observations are a Box of floats with at least one axis, and actions a Discrete or
            a Box of floats with one axis.
    """
    if not (_is_float_box(observation_space) and len(observation_space.shape or ()) > 0):
        raise InvalidArgumentError(
            f"expected an observation space that is a Box of float32 or float64 with at least one axis, got "
            f"{observation_space}"
        )
    if isinstance(action_space, gymnasium.spaces.Discrete):
        return
    # RLlib gives the distribution's parameters as one row, and does not reshape what it samples from them.
    if not (_is_float_box(action_space) and len(action_space.shape or ()) == 1):
        raise InvalidArgumentError(
            f"expected an action space that is a Discrete or a Box of float32 or float64 with one axis, got "
            f"{action_space}"
        )


def _is_float_box(space: gymnasium.Space[Any]) -> bool:
    return isinstance(space, gymnasium.spaces.Box) and space.dtype in (np.dtype(np.float32), np.dtype(np.float64))
