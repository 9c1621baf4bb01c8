from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

from steersman import spaces
from steersman.v1 import common_pb2

SPACES = [
    Box(-1.0, 1.0, (4,), np.float32),
    Box(np.array([-1, -2], np.float32), np.array([1, np.inf], np.float32)),
    Box(0, 255, (3, 3, 1), np.uint8),
    Box(-np.inf, np.inf, (), np.float64),
    Discrete(5),
    Discrete(3, start=-1),
    Discrete(3, dtype=np.int8),
    MultiDiscrete([2, 3], start=[0, -1]),
    MultiDiscrete(np.array([[2, 3], [4, 5]])),
    MultiBinary(4),
    MultiBinary([2, 3]),
    Dict({"camera": Box(0, 255, (2,), np.uint8), "joints": Tuple([Discrete(2), MultiBinary(1)])}),
    Tuple([]),
]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_a_space_is_described_as_gymnasium_prints_it(space: gymnasium.Space[Any]) -> None:
    assert spaces.describe(spaces.from_gymnasium(space)) == " ".join(str(space).split())


def test_a_description_is_a_line_however_large_the_space() -> None:
    large = np.arange(84 * 84 * 4, dtype=np.float32).reshape(84, 84, 4)
    described = spaces.describe(spaces.from_gymnasium(Box(-large, large)))
    assert "\n" not in described
    assert len(described) < 2000


def test_nothing_is_described_too() -> None:
    assert spaces.describe(common_pb2.Space()) == "no space"
