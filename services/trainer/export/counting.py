"""Integers of observations that do not start at 0, or have more than one axis."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Dict, Discrete, MultiDiscrete, Tuple
from ray.rllib.connectors.env_to_module.observation_preprocessor import SingleAgentObservationPreprocessor

from services.trainer.export.nesting import leaves


class CountFromZero(SingleAgentObservationPreprocessor):  # type: ignore[misc] # RLlib has no types
    """Env-to-module connector piece that numbers integers of observations from 0, in one axis.

    RLlib's one-hot vectors take no others.
    """

    def recompute_output_observation_space(
        self, input_observation_space: gymnasium.Space[Any], _input_action_space: gymnasium.Space[Any]
    ) -> gymnasium.Space[Any]:
        """Gives the space of what comes out."""
        return _counted_space(input_observation_space)

    def preprocess(self, observation: Any, episode: Any) -> Any:  # noqa: ANN401 - RLlib's signature
        """Numbers one observation."""
        return _counted(self.input_observation_space, observation)


def needs_counting(space: gymnasium.Space[Any]) -> bool:
    """Tells whether a space has integers that RLlib's one-hot vectors do not take."""
    return any(
        isinstance(part, Discrete | MultiDiscrete)
        and (bool(np.any(part.start)) or (isinstance(part, MultiDiscrete) and len(part.shape) != 1))
        for _, part in leaves(space)
    )


def _counted_space(space: gymnasium.Space[Any]) -> gymnasium.Space[Any]:
    match space:
        case Dict():
            return Dict({key: _counted_space(part) for key, part in space.spaces.items()})
        case Tuple():
            return Tuple([_counted_space(part) for part in space.spaces])
        case Discrete():
            return Discrete(int(space.n))
        case MultiDiscrete():
            return MultiDiscrete(space.nvec.ravel())
    return space


def _counted(space: gymnasium.Space[Any], observation: Any) -> Any:  # noqa: ANN401 - a sample of the space
    match space:
        case Dict():
            return {key: _counted(part, observation[key]) for key, part in space.spaces.items()}
        case Tuple():
            return tuple(_counted(part, value) for part, value in zip(space.spaces, observation, strict=True))
        case Discrete():
            return np.int64(observation - space.start)
        case MultiDiscrete():
            return np.asarray(observation - space.start, np.int64).ravel()
    return observation
