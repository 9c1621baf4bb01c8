from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from gymnasium.spaces import Box, Dict, Discrete, Space

from steersman import spaces
from steersman._client.formats import Format
from steersman.errors import FailedPreconditionError, InvalidArgumentError
from steersman.v1 import common_pb2

SPACE = Dict({"phase": Discrete(3), "speed": Box(-1, 1, (2,))})
ONE = {"phase": 1, "speed": [0.5, 0]}


def spec_of(space: Space[object] = SPACE, takes_reward: bool = False) -> common_pb2.PolicySpec:
    described, action = spaces.from_gymnasium(space), spaces.from_gymnasium(Discrete(2))
    spec = common_pb2.PolicySpec(
        observation_space=described,
        action_space=action,
        observation_tensors=spaces.tensor_specs(described, spaces.OBSERVATION),
        action_tensors=spaces.tensor_specs(action, spaces.ACTION),
    )
    if takes_reward:
        spec.observation_tensors.add(name=spaces.PREVIOUS_REWARD, dtype=common_pb2.DATA_TYPE_FLOAT32)
    return spec


def test_an_observation_is_its_tensors() -> None:
    arrays = Format.of(spec_of()).encode(ONE, None, validate=True)
    assert {name: array.tolist() for name, array in arrays.items()} == {
        "observation/phase": 1,
        "observation/speed": [0.5, 0],
    }


def test_limits_are_checked_only_when_that_is_wanted() -> None:
    format_ = Format.of(spec_of())
    outside = [ONE, ONE | {"phase": 3}]
    assert format_.encode(outside, None, validate=False)["observation/phase"].tolist() == [1, 3]
    with pytest.raises(
        InvalidArgumentError, match="observation/phase between 0 and 2 in element 1 of the batch, got 3"
    ):
        format_.encode(outside, None, validate=True)


@pytest.mark.parametrize(
    ("observation", "reward"), [(ONE, 1), (ONE, np.float64(1)), ([ONE, ONE], [1, 2]), ([ONE], np.ones(1))]
)
def test_the_reward_travels_along_where_it_is_taken(observation: spaces.Sample, reward: npt.ArrayLike) -> None:
    array = Format.of(spec_of(takes_reward=True)).encode(observation, reward, validate=True)["previous_reward"]
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, reward)


@pytest.mark.parametrize(
    ("observation", "reward", "words"),
    [
        (ONE, None, "which the policy takes, one number, 0 in the first step; got none"),
        ([ONE, ONE], None, "which the policy takes, one for each of 2 observations, .* got none"),
        ([ONE, ONE], 0, r"one for each of 2 observations, got shape \[\]"),
        ([ONE, ONE], [0], r"one for each of 2 observations, got shape \[1\]"),
        (ONE, [0], r"one number, got shape \[1\]"),
        (ONE, "much", "one number, got 'much'"),
    ],
)
def test_rewards_that_do_not_fit_are_refused(
    observation: spaces.Sample, reward: npt.ArrayLike | None, words: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=f"expected the reward of the step before, {words}"):
        Format.of(spec_of(takes_reward=True)).encode(observation, reward, validate=False)


def test_a_reward_that_nobody_takes_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="expected no reward"):
        Format.of(spec_of()).encode(ONE, 0.0, validate=False)


def test_a_policy_that_travels_in_another_way_is_refused() -> None:
    spec = spec_of()
    spec.observation_tensors[0].name = "observation.phase"
    with pytest.raises(FailedPreconditionError, match=r"'observation/phase int64\[\]'.*got .'observation.phase int64"):
        Format.of(spec)
