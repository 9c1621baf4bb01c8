from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, Tuple
from gymnasium.vector.utils import concatenate, create_empty_array
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from steersman import spaces, tensors
from steersman.errors import InvalidArgumentError
from tests.gymnasium_spaces import SPACES, same

SEEDS = st.integers(0, 2**31 - 1)

POINTS = Tuple([Discrete(9), Discrete(9)])
ROBOT = Dict(
    {
        "camera": Box(0, 255, (2, 2, 3), np.uint8),
        "joints": Tuple([Box(-1, 1, (3,)), MultiBinary(2)]),
        "phase": Discrete(3, start=-1),
    }
)


def layout_of(space: gymnasium.Space[Any]) -> spaces.Layout:
    return spaces.layout(spaces.from_gymnasium(space), spaces.OBSERVATION)


def over_the_wire(sample: spaces.Sample, layout: spaces.Layout) -> spaces.Sample:
    messages = {name: tensors.encode(array) for name, array in spaces.flatten(sample, layout).items()}
    return spaces.unflatten({name: tensors.decode(message) for name, message in messages.items()}, layout)


@given(space=SPACES, seed=SEEDS)
@settings(deadline=None)
def test_a_sample_survives_the_wire(space: gymnasium.Space[Any], seed: int) -> None:
    space.seed(seed)
    sample = space.sample()
    restored = over_the_wire(sample, layout_of(space))
    assert same(restored, sample)
    assert space.contains(restored)


@given(space=SPACES, seed=SEEDS, size=st.integers(1, 4))
@settings(deadline=None)
def test_batches_survive_the_wire_as_lists_and_as_vector_environments_give_them(
    space: gymnasium.Space[Any], seed: int, size: int
) -> None:
    space.seed(seed)
    layout = layout_of(space)
    samples = [space.sample() for _ in range(size)]
    batch = concatenate(space, samples, create_empty_array(space, size))
    for given_as in (batch, samples, tuple(samples)):
        restored = over_the_wire(given_as, layout)
        assert same(restored, batch)
        alone = spaces.unbatch(restored, layout)
        assert len(alone) == size
        assert all(map(same, alone, samples))
        assert all(map(space.contains, alone))


@given(space=SPACES, seed=SEEDS)
@settings(deadline=None)
def test_json_is_as_good_as_a_sample(space: gymnasium.Space[Any], seed: int) -> None:
    space.seed(seed)
    sample = space.sample()
    layout = layout_of(space)
    # An empty list tells neither dtype nor inner axes.
    assume(not any(0 in leaf.shape for leaf in layout.leaves))
    assert same(over_the_wire(spaces.plain(sample), layout), sample)


def test_parts_come_back_as_their_spaces_hold_them() -> None:
    space = Tuple([Discrete(2), Box(0, 1, ()), Dict({"mask": MultiBinary(1)})])
    number, box, named = over_the_wire((1, 0.5, {"mask": [1]}), layout_of(space))
    assert (type(number), type(box), type(named), named["mask"].dtype) == (np.int64, np.ndarray, dict, np.int8)


def test_a_tuple_of_parts_and_a_list_of_samples_are_told_apart() -> None:
    expected = {"observation/0": [1, 3], "observation/1": [2, 4]}
    for batch in ([(1, 2), (3, 4)], ((1, 2), (3, 4)), [[1, 2], [3, 4]], (np.array([1, 3]), np.array([2, 4]))):
        flat = spaces.flatten(batch, layout_of(POINTS))
        assert {name: array.tolist() for name, array in flat.items()} == expected
    assert spaces.flatten((1, 2), layout_of(POINTS))["observation/0"].shape == ()
    pairs = Tuple([Box(-9, 9, (2,)), Box(-9, 9, (2,))])
    assert spaces.flatten([[1, 2], [3, 4]], layout_of(pairs))["observation/1"].tolist() == [3, 4]


@pytest.mark.parametrize(
    ("numbers", "dtype"),
    [([0, 255], np.uint8), (np.array([0, 1], np.uint64), np.int8), ([True, False], np.int8), ([1, 2], np.float32)],
)
def test_numbers_may_come_in_other_dtypes_that_they_survive(
    numbers: spaces.Sample, dtype: type[np.integer[Any]]
) -> None:
    low, high = (0, 1) if dtype is np.int8 else (0, 255)
    array = spaces.flatten(numbers, layout_of(Box(low, high, (2,), dtype)))["observation"]
    assert array.dtype == dtype
    np.testing.assert_array_equal(array, numbers)


@pytest.mark.parametrize(
    ("space", "sample", "words"),
    [
        (Box(-1, 1, (4,)), np.zeros(3), r"expected observation float32\[4\], or a batch of them, got float64\[3\]"),
        (Box(-1, 1, (4,)), np.zeros((0, 4)), r"or a batch of them, got float64\[0, 4\]"),
        (Box(-1, 1, (4,)), 1.0, r"or a batch of them, got float64\[\]"),
        (Box(-1, 1, (4,)), np.zeros(4, complex), "dtype float32, got complex128"),
        (Box(-1, 1, (1,)), ["a"], "dtype float32, got str"),
        (Box(-1, 1, (1,)), [None], "dtype float32, got object"),
        (Box(-1, 1, (2,)), [[1], [1, 2]], r"float32\[2\], got sequences of unequal lengths"),
        (Box(0, 255, (2,), np.uint8), [1, 256], "numbers that uint8 can hold for observation, got 1 to 256"),
        (Box(0, 255, (2,), np.uint8), [1.0, 2.0], "dtype uint8, got float64"),
        (Discrete(3), 1.5, "dtype int64, got float64"),
        (
            ROBOT,
            {"camera": 0},
            r"expected observation with the parts \['camera', 'joints', 'phase'\], got \['camera'\]",
        ),
        (ROBOT, np.zeros(3), r"with the parts .*, got ndarray"),
        (ROBOT, [], "expected at least one sample in a batch for observation, got none"),
        (ROBOT, ROBOT.sample() | {"extra": 1}, r"got \['camera', 'extra', 'joints', 'phase'\]"),
        (ROBOT, ROBOT.sample() | {"joints": (1,)}, "expected observation/joints as a tuple of 2 parts, got 1 parts"),
        (ROBOT, ROBOT.sample() | {"joints": 5}, "expected observation/joints as a tuple of 2 parts, got int"),
        (
            ROBOT,
            ROBOT.sample() | {"phase": [0, 1]},
            r"as many samples of observation/phase as of observation/camera, got shapes \[2\] and \[2, 2, 3\]",
        ),
        (
            ROBOT,
            [ROBOT.sample(), ROBOT.sample() | {"phase": [0, 1]}],
            r"expected observation/phase int64\[\], got int64\[2\] in element 1 of the batch",
        ),
    ],
)
def test_samples_that_do_not_fit_are_refused(space: gymnasium.Space[Any], sample: spaces.Sample, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        spaces.flatten(sample, layout_of(space))


def test_missing_and_unfit_tensors_are_refused() -> None:
    layout = layout_of(ROBOT)
    arrays = spaces.flatten(ROBOT.sample(), layout)
    with pytest.raises(InvalidArgumentError, match=r"expected observation/joints/1 of shape \[2\], got \[3\]"):
        spaces.unflatten(arrays | {"observation/joints/1": np.zeros(3, np.int8)}, layout)
    del arrays["observation/phase"]
    with pytest.raises(InvalidArgumentError, match="expected a tensor named 'observation/phase', got"):
        spaces.unflatten(arrays, layout)
