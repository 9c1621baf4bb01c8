"""Which spaces can be exported, told from the spaces alone: before a run starts rather than after it has trained."""

from __future__ import annotations

import json
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete

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
                "expected an observation space made of Box, Discrete, MultiDiscrete and MultiBinary, got "
                f"{_where(path, part)}; {_left_out(observation_space)}"
            )
        if isinstance(part, Box) and np.dtype(part.dtype).kind not in "biuf":
            raise InvalidArgumentError(f"expected observations of numbers, got {_where(path, part)}")
    for path, part in leaves(action_space):
        # RLlib gives the distribution's parameters as one row, and does not reshape what it samples from them.
        one_axis = len(part.shape or ()) == 1
        is_known = isinstance(part, Discrete) or (isinstance(part, MultiDiscrete) and one_axis)
        if not (is_known or (isinstance(part, Box) and part.dtype in (np.float32, np.float64) and one_axis)):
            raise InvalidArgumentError(
                "expected an action space made of Discrete, MultiDiscrete with one axis and Box of float32 or float64 "
                f"with one axis, got {_where(path, part)}; {_instead(part)}"
            )


def _left_out(space: gymnasium.Space[Any]) -> str:
    """Says how what cannot be exported is left out of an observation."""
    parts = space.spaces if isinstance(space, Dict) else {}
    kept = [
        key
        for key, part in parts.items()
        if all(isinstance(leaf, Box | Discrete | MultiDiscrete | MultiBinary) for _, leaf in leaves(part))
    ]
    if not kept:
        return "a wrapper of your own (--wrapper) can make numbers of it"
    arguments = json.dumps({"filter_keys": kept})
    return f"leave it out with a wrapper, such as --wrapper 'gymnasium.wrappers:FilterObservation{arguments}'"


def _instead(part: gymnasium.Space[Any]) -> str:
    """Says what a wrapper can make of a part of an action."""
    if isinstance(part, Box) and np.dtype(part.dtype).kind in "biu":
        return "for whole numbers a wrapper of your own (--wrapper) can take MultiDiscrete actions and hand them on"
    if isinstance(part, Box | MultiDiscrete):
        return "a wrapper of your own (--wrapper) can take actions of one axis and reshape them"
    return "a wrapper of your own (--wrapper) can take other actions and translate them"


def _where(path: Path, part: gymnasium.Space[Any]) -> str:
    return f"{part} at {'/'.join(map(str, path))}" if path else str(part)
