from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman import spaces
from steersman.errors import InvalidArgumentError
from tests.gymnasium_spaces import SPACES, leaves

SPACE = Dict(
    {
        "speed": Box(-1.0, 1.0, (2,)),
        "bounds": Box(np.array([-np.inf, 0], np.float32), np.array([0, np.inf], np.float32)),
        "phase": Discrete(3, start=-1),
        "lots": MultiDiscrete(np.array([[2, 3]]), start=np.array([[0, 5]])),
        "mask": Tuple([MultiBinary(3)]),
    }
)
INSIDE = {
    "speed": [1, -1],
    "bounds": [-1e9, 1e9],
    "phase": 1,
    "lots": [[1, 7]],
    "mask": ([0, 1, 1],),
}


def check(sample: spaces.Sample, space: gymnasium.Space[Any]) -> None:
    layout = spaces.layout(spaces.from_gymnasium(space), spaces.OBSERVATION)
    spaces.check_limits(spaces.flatten(sample, layout), spaces.limits_of(layout))


@given(space=SPACES, seed=st.integers(0, 2**31 - 1), size=st.integers(1, 3))
@settings(deadline=None)
def test_samples_lie_in_their_space(space: gymnasium.Space[Any], seed: int, size: int) -> None:
    space.seed(seed)
    check(space.sample(), space)
    check([space.sample() for _ in range(size)], space)


@given(space=leaves(), other=leaves(), seed=st.integers(0, 2**31 - 1))
@settings(deadline=None)
def test_what_is_refused_is_what_gymnasium_refuses(
    space: gymnasium.Space[Any], other: gymnasium.Space[Any], seed: int
) -> None:
    """Samples of another space's numbers, in the shape and dtype of this one."""
    assert space.shape is not None
    other.seed(seed)
    numbers = np.resize(np.asarray(other.sample()).ravel(), space.shape)
    if not np.can_cast(numbers.dtype, space.dtype or np.float64):
        return
    sample = numbers.astype(space.dtype)
    try:
        check(sample, space)
        accepted = True
    except InvalidArgumentError:
        accepted = False
    assert accepted == space.contains(sample)


def test_the_bounds_themselves_are_inside() -> None:
    check(INSIDE, SPACE)


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"speed": [0, 1.5]}, r"observation/speed between -1.0 and 1.0 at \[1\], got 1.5"),
        ({"speed": [math.nan, 0]}, r"observation/speed between -1.0 and 1.0 at \[0\], got nan"),
        ({"bounds": [1, 1]}, r"observation/bounds between -inf and 0.0 at \[0\], got 1.0"),
        ({"phase": 2}, "observation/phase between -1 and 1, got 2"),
        ({"phase": -2}, "observation/phase between -1 and 1, got -2"),
        ({"lots": [[0, 4]]}, r"observation/lots between 5 and 7 at \[0, 1\], got 4"),
        ({"mask": ([0, 2, 0],)}, r"observation/mask/0 between 0 and 1 at \[1\], got 2"),
    ],
)
def test_what_is_beyond_is_named(part: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"expected {words}$"):
        check(INSIDE | part, SPACE)
    place, got = words.rsplit(", ", 1)
    with pytest.raises(InvalidArgumentError, match=f"expected {place} in element 2 of the batch, {got}$"):
        check([INSIDE, INSIDE, INSIDE | part, INSIDE], SPACE)
