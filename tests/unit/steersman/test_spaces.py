from typing import Any

import gymnasium
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman import spaces
from steersman.errors import InvalidArgumentError
from steersman.v1 import common_pb2

SPACES = [
    gymnasium.spaces.Box(-1.0, 1.0, (4,), np.float32),
    gymnasium.spaces.Box(np.array([-1, -2], np.float32), np.array([1, np.inf], np.float32)),
    gymnasium.spaces.Box(0, 255, (3, 3, 1), np.uint8),
    gymnasium.spaces.Discrete(5),
    gymnasium.spaces.Discrete(3, start=-1),
]


@pytest.mark.parametrize("space", SPACES, ids=str)
@given(seed=st.integers(0, 2**31 - 1), size=st.integers(1, 4))
def test_samples_and_batches_survive_the_wire(space: gymnasium.Space[Any], seed: int, size: int) -> None:
    specs = spaces.tensor_specs(spaces.from_gymnasium(space), spaces.OBSERVATION)
    space.seed(seed)
    sample = space.sample()
    restored = spaces.unflatten(spaces.flatten(sample, specs), specs)[()]
    np.testing.assert_array_equal(restored, sample)
    assert space.contains(restored)
    batch = np.stack([space.sample() for _ in range(size)])
    np.testing.assert_array_equal(spaces.unflatten(spaces.flatten(batch, specs), specs), batch)


def test_bounds_are_kept_short_where_they_are_equal() -> None:
    box = spaces.from_gymnasium(gymnasium.spaces.Box(0, 255, (84, 84, 4), np.uint8)).box
    assert list(box.low) == [0]
    assert list(box.high) == [255]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_a_space_is_described_as_gymnasium_prints_it(space: gymnasium.Space[Any]) -> None:
    described = spaces.describe(spaces.from_gymnasium(space))
    assert described.split("(")[0] == str(space).split("(")[0]


def test_unknown_spaces_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="expected a Box or Discrete space"):
        spaces.from_gymnasium(gymnasium.spaces.Text(3))
    with pytest.raises(InvalidArgumentError, match="got none"):
        spaces.tensor_specs(common_pb2.Space(), spaces.ACTION)


@pytest.mark.parametrize(
    ("sample", "words"),
    [
        (np.zeros(3), r"expected observation float32\[4\], or a batch of them, got float64\[3\]"),
        (np.zeros((2, 2, 4)), "got float64"),
        (np.zeros(4, complex), "dtype float32, got complex128"),
    ],
)
def test_samples_that_do_not_fit_are_refused(sample: np.ndarray, words: str) -> None:
    specs = spaces.tensor_specs(spaces.from_gymnasium(SPACES[0]), spaces.OBSERVATION)
    with pytest.raises(InvalidArgumentError, match=words):
        spaces.flatten(sample, specs)
