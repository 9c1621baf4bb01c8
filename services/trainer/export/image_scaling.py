"""Images of bytes, for networks that take numbers between 0 and 1."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from ray.rllib.connectors.env_to_module.observation_preprocessor import SingleAgentObservationPreprocessor

LARGEST = np.float32(255.0)


class ScaleImages(SingleAgentObservationPreprocessor):  # type: ignore[misc] # RLlib has no types
    """Env-to-module connector piece that divides uint8 observations by 255.

    RLlib's own networks fail on integers, and learn badly from numbers up to 255. Observations stay uint8 between the
    environment and the policy, which is a quarter of the bytes.
    """

    def recompute_output_observation_space(
        self, input_observation_space: gymnasium.Space[Any], _input_action_space: gymnasium.Space[Any]
    ) -> gymnasium.Space[Any]:
        """Gives the space of what comes out: float32 in [0, 1]."""
        return gymnasium.spaces.Box(0.0, 1.0, input_observation_space.shape, np.float32)

    def preprocess(self, observation: npt.NDArray[np.uint8], episode: Any) -> npt.NDArray[np.float32]:  # noqa: ANN401
        """Scales one observation."""
        return observation.astype(np.float32) / LARGEST


def is_image(space: gymnasium.Space[Any]) -> bool:
    """Tells whether observations of a space are bytes that have to be scaled."""
    return isinstance(space, gymnasium.spaces.Box) and space.dtype == np.uint8
