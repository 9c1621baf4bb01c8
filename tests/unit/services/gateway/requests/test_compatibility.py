from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from services.gateway.requests.compatibility import are_compatible, describe_interface
from steersman import spaces
from steersman.v1 import common_pb2

BOX = gymnasium.spaces.Box(-1.0, 1.0, (4,), np.float32)
TWO: gymnasium.Space[object] = gymnasium.spaces.Discrete(2)


def spec(
    observation: gymnasium.Space[object], action: gymnasium.Space[object], *, takes_reward: bool = False
) -> common_pb2.PolicySpec:
    observation_space, action_space = spaces.from_gymnasium(observation), spaces.from_gymnasium(action)
    made = common_pb2.PolicySpec(
        observation_space=observation_space,
        action_space=action_space,
        observation_tensors=spaces.tensor_specs(observation_space, spaces.OBSERVATION),
        action_tensors=spaces.tensor_specs(action_space, spaces.ACTION),
    )
    if takes_reward:
        made.observation_tensors.add(name=spaces.PREVIOUS_REWARD, dtype=common_pb2.DATA_TYPE_FLOAT32)
    return made


def dict_of(box: gymnasium.Space[object]) -> gymnasium.Space[object]:
    return gymnasium.spaces.Dict({"inner": gymnasium.spaces.Tuple((TWO, box))})


@pytest.mark.parametrize("wrap", [lambda space: space, dict_of])
def test_bounds_do_not_matter_however_deep_they_are(wrap: type) -> None:
    wider = gymnasium.spaces.Box(np.full(4, -np.inf, np.float32), np.full(4, np.inf, np.float32))
    assert are_compatible(spec(wrap(BOX), TWO), spec(wrap(wider), TWO))
    assert are_compatible(spec(BOX, wrap(BOX)), spec(BOX, wrap(wider)))


@pytest.mark.parametrize(
    "other",
    [
        gymnasium.spaces.Box(-1.0, 1.0, (5,), np.float32),
        gymnasium.spaces.Box(-1.0, 1.0, (2, 2), np.float32),
        gymnasium.spaces.Box(-1.0, 1.0, (4,), np.float64),
        gymnasium.spaces.Discrete(4),
        gymnasium.spaces.Dict({"inner": BOX}),
        gymnasium.spaces.Tuple((BOX,)),
    ],
)
def test_all_else_does(other: gymnasium.Space[object]) -> None:
    assert not are_compatible(spec(BOX, TWO), spec(other, TWO))
    assert not are_compatible(spec(TWO, BOX), spec(TWO, other))


def test_another_number_of_choices_is_another_space() -> None:
    assert not are_compatible(spec(BOX, TWO), spec(BOX, gymnasium.spaces.Discrete(3)))
    assert not are_compatible(spec(BOX, TWO), spec(BOX, gymnasium.spaces.Discrete(2, start=1)))


def test_who_takes_the_reward_is_sent_something_else() -> None:
    with_reward = spec(BOX, TWO, takes_reward=True)
    assert not are_compatible(spec(BOX, TWO), with_reward)
    assert are_compatible(with_reward, with_reward)
    assert describe_interface(with_reward) == (
        "observations Box(-1.0, 1.0, (4,), float32) and the reward of the step before and actions Discrete(2)"
    )


def test_memory_does_not_matter() -> None:
    remembering = spec(BOX, TWO)
    remembering.state_tensors.add(name="state", dtype=common_pb2.DATA_TYPE_FLOAT32, shape=[8])
    assert are_compatible(spec(BOX, TWO), remembering)


def test_a_space_of_very_many_parts_is_described_in_a_line() -> None:
    many = gymnasium.spaces.Dict({f"sensor-{index}": BOX for index in range(500)})
    assert len(describe_interface(spec(many, TWO))) < 500
