import math
from typing import Any

import gymnasium
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.gateway.requests.observations import read_observation, refuse_nonfinite, tensor_formats
from steersman import spaces, tensors
from steersman.errors import InvalidArgumentError
from steersman.v1 import common_pb2
from tests.gymnasium_spaces import SPACES

FORMATS = tensor_formats(
    [
        common_pb2.TensorSpec(name="position", dtype=common_pb2.DATA_TYPE_FLOAT32, shape=[2, 3]),
        common_pb2.TensorSpec(name="step", dtype=common_pb2.DATA_TYPE_INT64),
    ],
    "observation",
)


def message(position: np.ndarray, step: np.ndarray) -> dict[str, common_pb2.Tensor]:
    return {"position": tensors.encode(position), "step": tensors.encode(step)}


def test_one_observation_is_read() -> None:
    position, step = np.ones((2, 3), np.float32), np.array(5)
    observation = read_observation(message(position, step), FORMATS)
    assert (observation.size, observation.batched) == (1, False)
    assert observation.data == (position.tobytes(), step.tobytes())


@pytest.mark.parametrize("size", [1, 2, 7])
def test_a_batch_is_read(size: int) -> None:
    observation = read_observation(message(np.ones((size, 2, 3), np.float32), np.arange(size)), FORMATS)
    assert (observation.size, observation.batched) == (size, True)


@given(space=SPACES, seed=st.integers(0, 2**31 - 1), size=st.integers(1, 4))
@settings(deadline=None)
def test_samples_of_any_space_are_read(space: gymnasium.Space[Any], seed: int, size: int) -> None:
    """However many tensors they are, of whatever dtypes."""
    space.seed(seed)
    described = spaces.from_gymnasium(space)
    layout = spaces.layout(described, spaces.OBSERVATION)
    formats = tensor_formats(spaces.tensor_specs(described, spaces.OBSERVATION), "observation")
    for sample, rows, batched in (
        (space.sample(), 1, False),
        ([space.sample() for _ in range(size)], size, True),
    ):
        arrays = spaces.flatten(sample, layout)
        observation = read_observation({name: tensors.encode(array) for name, array in arrays.items()}, formats)
        assert (observation.size, observation.batched) == (rows, batched)
        assert observation.data == tuple(arrays[leaf.name].tobytes() for leaf in layout.leaves)
        refuse_nonfinite(observation, formats)


def test_tensors_of_different_batches_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="expected a batch of 2 for tensor 'step'"):
        read_observation(message(np.ones((2, 2, 3), np.float32), np.arange(3)), FORMATS)
    with pytest.raises(InvalidArgumentError, match="expected no batch axis for tensor 'step'"):
        read_observation(message(np.ones((2, 3), np.float32), np.arange(1)), FORMATS)


@given(
    dtype=st.sampled_from([0, 9, 11, 12, 99]),
    shape=st.lists(st.integers(-3, 4) | st.integers(-(2**63), 2**63 - 1), max_size=4),
    size=st.integers(0, 200),
)
def test_only_what_fits_gets_in(dtype: int, shape: list[int], size: int) -> None:
    position = common_pb2.Tensor(dtype=dtype, shape=shape, data=bytes(size))  # type: ignore[arg-type]
    step = tensors.encode(np.zeros(shape[:1] if len(shape) == 3 and 0 < shape[0] < 5 else (), np.int64))
    try:
        observation = read_observation({"position": position, "step": step}, FORMATS)
    except InvalidArgumentError:
        return
    assert dtype == common_pb2.DATA_TYPE_FLOAT32
    assert shape[-2:] == [2, 3]
    assert size == 4 * math.prod(shape) == 24 * observation.size


@pytest.mark.parametrize(
    "spec",
    [
        common_pb2.TensorSpec(name="", dtype=common_pb2.DATA_TYPE_BOOL),
        common_pb2.TensorSpec(name="position"),
        common_pb2.TensorSpec(name="position", dtype=common_pb2.DATA_TYPE_BOOL, shape=[-1]),
    ],
)
def test_specs_that_make_no_sense_are_refused(spec: common_pb2.TensorSpec) -> None:
    with pytest.raises(InvalidArgumentError):
        tensor_formats([spec], "observation")


def test_no_specs_are_refused() -> None:
    with pytest.raises(InvalidArgumentError):
        tensor_formats([], "observation")


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none_are_refused_where_that_is_wanted(number: float) -> None:
    position = np.ones((5, 2, 3), np.float32)
    good = read_observation(message(position, np.arange(5)), FORMATS)
    refuse_nonfinite(good, FORMATS)
    position[4, 1, 2] = number
    bad = read_observation(message(position, np.arange(5)), FORMATS)
    with pytest.raises(InvalidArgumentError, match="expected finite numbers in tensor 'position', got NaN or infinity"):
        refuse_nonfinite(bad, FORMATS)
