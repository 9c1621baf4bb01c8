"""Which spaces can be exported, told from the spaces alone: before a run starts rather than after it has trained."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

from services.trainer.export.nesting import Path, leaves
from steersman.errors import InvalidArgumentError


def check_spaces(observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]) -> None:
    """Checks that a policy with these spaces can become a bundle.

    Args:
        observation_space: What the environment emits.
        action_space: What the environment takes.

    Raises:
        InvalidArgumentError: Unless observations are Box, Discrete, MultiDiscrete or MultiBinary, and actions Discrete,
            MultiDiscrete with one axis or a Box of floats with one axis; each alone or as parts of Dicts and Tuples.
    """
    for path, part in leaves(observation_space):
        if not isinstance(part, Box | Discrete | MultiDiscrete | MultiBinary):
            raise InvalidArgumentError(
                f"expected an observation space made of Box, Discrete, MultiDiscrete and MultiBinary, got "
                f"{_where(path, part)}"
            )
    for path, part in leaves(action_space):
        # RLlib gives the distribution's parameters as one row, and does not reshape what it samples from them.
        one_axis = len(part.shape or ()) == 1
        is_known = isinstance(part, Discrete) or (isinstance(part, MultiDiscrete) and one_axis)
        if not (is_known or (isinstance(part, Box) and np.dtype(part.dtype).kind == "f" and one_axis)):
            raise InvalidArgumentError(
                "expected an action space made of Discrete, MultiDiscrete with one axis and Box of float32 or float64 "
                f"with one axis, got {_where(path, part)}"
            )


def _where(path: Path, part: gymnasium.Space[Any]) -> str:
    return f"{part} at {'/'.join(map(str, path))}" if path else str(part)
