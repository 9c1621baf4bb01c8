import numpy as np
import pytest

from services.gateway.dispatch.shadow import agree, distance
from services.gateway.requests.versions import Version, read_version
from steersman import spaces
from steersman.v1 import common_pb2, replica_pb2


def version(space: common_pb2.Space) -> Version:
    spec = common_pb2.PolicySpec(
        observation_space=space,
        action_space=space,
        observation_tensors=spaces.tensor_specs(space, spaces.OBSERVATION),
        action_tensors=spaces.tensor_specs(space, spaces.ACTION),
    )
    return read_version(replica_pb2.LoadedVersion(version=1, spec=spec))


DISCRETE = version(common_pb2.Space(discrete=common_pb2.DiscreteSpace(n=4, dtype=common_pb2.DATA_TYPE_INT64)))
CONTINUOUS = version(
    common_pb2.Space(
        box=common_pb2.BoxSpace(dtype=common_pb2.DATA_TYPE_FLOAT32, shape=[2], low=[-1.0] * 2, high=[1.0] * 2)
    )
)


@pytest.mark.parametrize(("other", "expected"), [([1, 2], True), ([1, 3], False)])
def test_discrete_actions_have_to_be_equal(other: list[int], expected: bool) -> None:
    assert (
        agree(DISCRETE, (np.array([1, 2], np.int64).tobytes(),), (np.array(other, np.int64).tobytes(),), 10.0)
        is expected
    )


@pytest.mark.parametrize(
    ("other", "tolerance", "expected"),
    [
        ([0.5, 0.25], 0.0, True),
        ([0.5, 0.3], 0.1, True),
        ([0.5, 0.3], 0.01, False),
        ([0.5, np.nan], 0.1, False),
    ],
)
def test_continuous_actions_may_differ_by_the_tolerance(other: list[float], tolerance: float, expected: bool) -> None:
    first = np.array([0.5, 0.25], np.float32).tobytes()
    # What follows the actions, such as state, does not count.
    second = np.array(other, np.float32).tobytes()
    assert agree(CONTINUOUS, (first, b"a"), (second, b"b"), tolerance) is expected


def test_nan_agrees_with_nan() -> None:
    first, second = np.array([np.nan, 0.25], np.float32), np.array([np.nan, 0.26], np.float32)
    assert agree(CONTINUOUS, (first.tobytes(),), (second.tobytes(),), 0.1)


@pytest.mark.parametrize(("other", "expected"), [([0.5, 0.25], 0.0), ([0.5, -0.5], 0.75), ([0.5, np.nan], None)])
def test_the_distance_is_the_largest_difference(other: list[float], expected: float | None) -> None:
    first, second = np.array([0.5, 0.25], np.float32).tobytes(), np.array(other, np.float32).tobytes()
    assert distance(CONTINUOUS, (first, b"a"), (second, b"b")) == expected


def test_discrete_actions_have_no_distance() -> None:
    one, other = np.array([1], np.int64).tobytes(), np.array([3], np.int64).tobytes()
    assert distance(DISCRETE, (one,), (other,)) is None
