from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Text, Tuple

from services.trainer.export.exportable import check_spaces
from steersman.errors import InvalidArgumentError

FLOATS = Box(-1.0, 1.0, (3,), np.float32)


@pytest.mark.parametrize(
    "observations",
    [
        FLOATS,
        Box(-1.0, 1.0, (3, 2), np.float64),
        Box(0, 255, (8, 8, 3), np.uint8),
        Discrete(4),
        Dict({"a": FLOATS, "b": Tuple((MultiBinary(3), MultiDiscrete([2, 3])))}),
    ],
)
@pytest.mark.parametrize(
    "actions",
    [
        Discrete(2),
        Discrete(2, start=-1),
        FLOATS,
        Box(0.0, 1.0, (2,), np.float64),
        MultiDiscrete([2, 3]),
        Dict({"push": FLOATS, "gear": Tuple((Discrete(2),))}),
    ],
)
def test_supported(observations: gymnasium.Space[Any], actions: gymnasium.Space[Any]) -> None:
    check_spaces(observations, actions)


def test_observations_that_are_not_are_named_with_their_place() -> None:
    with pytest.raises(InvalidArgumentError, match=r"observation space .* at a/0; a wrapper of your own"):
        check_spaces(Dict({"a": Tuple((Text(5),))}), Discrete(2))


@pytest.mark.parametrize(
    "actions",
    [
        Box(0, 5, (2,), np.int32),
        Box(-1.0, 1.0, (2, 2), np.float32),
        Box(-1.0, 1.0, (), np.float32),
        MultiDiscrete(np.array([[2], [3]])),
        MultiBinary(2),
        Tuple((Discrete(2), MultiBinary(2))),
    ],
)
def test_actions_that_are_not(actions: gymnasium.Space[Any]) -> None:
    with pytest.raises(InvalidArgumentError, match="action space"):
        check_spaces(FLOATS, actions)
