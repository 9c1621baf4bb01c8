from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete

from services.trainer.exportable import check_spaces
from steersman.errors import InvalidArgumentError

FLOATS = Box(-1.0, 1.0, (3,), np.float32)


@pytest.mark.parametrize("observations", [FLOATS, Box(-1.0, 1.0, (3, 2), np.float64)])
@pytest.mark.parametrize("actions", [Discrete(2), Discrete(2, start=-1), FLOATS, Box(0.0, 1.0, (2,), np.float64)])
def test_supported(observations: gymnasium.Space[Any], actions: gymnasium.Space[Any]) -> None:
    check_spaces(observations, actions)


@pytest.mark.parametrize(
    "observations",
    [Discrete(4), Box(0, 255, (8, 8, 3), np.uint8), Box(-1.0, 1.0, (), np.float32), Dict({"a": FLOATS})],
)
def test_observations_that_are_not(observations: gymnasium.Space[Any]) -> None:
    with pytest.raises(InvalidArgumentError, match="observation space"):
        check_spaces(observations, Discrete(2))


@pytest.mark.parametrize(
    "actions", [MultiDiscrete([2, 3]), Box(0, 5, (2,), np.int32), Box(-1.0, 1.0, (2, 2), np.float32)]
)
def test_actions_that_are_not(actions: gymnasium.Space[Any]) -> None:
    with pytest.raises(InvalidArgumentError, match="action space"):
        check_spaces(FLOATS, actions)
