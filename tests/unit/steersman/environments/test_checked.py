from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, Tuple

from steersman.environments.checked import CheckedEnvironment, UnsoundEnvironmentError
from tests import odd_environments as odd


class Shows(gymnasium.Env[Any, Any]):
    """Shows what it is given, with any reward and flags."""

    def __init__(self, space: Space[Any], value: object, *ending: object, actions: Space[Any] | None = None) -> None:
        self.observation_space, self.action_space = space, actions or Discrete(2)
        self._value, self._ending = value, ending or (0.0, False, False)
        self.taken: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        return self._value, {}

    def step(self, action: Any) -> Any:  # noqa: ANN401
        self.taken = action
        return self._value, *self._ending, {}


def checked(*arguments: Any, **keywords: Any) -> CheckedEnvironment:  # noqa: ANN401
    return CheckedEnvironment(Shows(*arguments, **keywords), "Boat-v0")


FLOATS = Box(-1.0, 1.0, (2,), np.float32)
BYTES = Box(0, 255, (2,), np.uint8)
PARTS = Dict({"a": FLOATS, "b": Tuple((Discrete(3, start=-1), MultiDiscrete([2, 3])))})


@pytest.mark.parametrize(
    ("space", "value", "expected"),
    [
        (FLOATS, np.array([0.5, 7.0]), np.array([0.5, 7.0], np.float32)),
        (FLOATS, [0.5, -1], np.array([0.5, -1.0], np.float32)),
        (BYTES, [3, 255], np.array([3, 255], np.uint8)),
        (Discrete(3), 2, np.int64(2)),
        (Discrete(3), np.array(2, np.int32), np.int64(2)),
        (MultiBinary(2), [True, False], np.array([1, 0], np.int8)),
    ],
)
def test_observations_get_the_dtype_of_their_space(space: Space[Any], value: object, expected: object) -> None:
    observation, _ = checked(space, value).reset()
    np.testing.assert_array_equal(observation, expected)
    assert (np.asarray(observation).dtype, type(observation)) == (np.asarray(expected).dtype, type(expected))


def test_parts_are_read_each_by_itself() -> None:
    observation, _ = checked(PARTS, {"b": [-1, [1, 2]], "a": np.zeros(2)}).reset()
    assert PARTS.contains(observation)


@pytest.mark.parametrize(
    ("space", "value", "message"),
    [
        (
            FLOATS,
            np.zeros(3),
            r"observations of float32 with shape \[2\] from reset of Boat-v0, got an array of float64",
        ),
        (FLOATS, None, r"observations of float32 .* got None"),
        (FLOATS, [[1.0], [1.0, 2.0]], "got sequences of unequal lengths"),
        (FLOATS, np.array([0.0, np.nan], np.float32), r"observations without NaN .* got \[0.0, nan\]"),
        (BYTES, [3, 256], r"observations of uint8 .* \[3, 256\]"),
        (BYTES, [0.5, 1.0], r"observations of uint8 .* array of float64"),
        (Discrete(3, start=1), 0, r"observations in Discrete\(3, start=1\) .* got 0"),
        (Discrete(3), 1.0, r"observations in Discrete\(3\) .* got 1.0 \(float\)"),
        (MultiDiscrete([2, 3]), [1, 3], r"observations in MultiDiscrete"),
        (PARTS, {"a": np.zeros(2)}, r"observations with the keys \['a', 'b'\] .* got the keys \['a'\]"),
        (PARTS, {"a": np.zeros(2), "b": (2, [0, 0])}, "the part b/0 of observations in Discrete"),
        (PARTS, {"a": np.zeros(2), "b": (0,)}, "the part b of observations of 2 parts"),
    ],
)
def test_what_no_dtype_mends_is_named(space: Space[Any], value: object, message: str) -> None:
    with pytest.raises(UnsoundEnvironmentError, match=message):
        checked(space, value).reset()


def test_rewards_are_floats_however_they_are_given() -> None:
    returns = set()
    for kind in odd.SOUND_REWARDS:
        environment = CheckedEnvironment(gymnasium.make(odd.SCALES, reward=kind, disable_env_checker=True), "Scales")
        environment.reset(seed=3)
        rewards, ended = [], False
        while not ended:
            _, reward, terminated, truncated, _ = environment.step(1)
            assert (type(reward), type(terminated), type(truncated)) == (float, bool, bool)
            rewards.append(reward)
            ended = terminated or truncated
        returns.add(sum(rewards))
    assert len(returns) == 1


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("vector", r"one number from step of Scales, got an array of float32 with shape \[2\]"),
        ("none", "one number from step of Scales, got None"),
        ("nan", "a finite reward from step of Scales, got nan"),
        ("text", r"one number from step of Scales, got '?\d"),
    ],
)
def test_rewards_that_are_no_number_are_named(kind: str, message: str) -> None:
    environment = CheckedEnvironment(gymnasium.make(odd.SCALES, reward=kind, disable_env_checker=True), "Scales")
    environment.reset(seed=3)
    with pytest.raises(UnsoundEnvironmentError, match=message):
        environment.step(1)


def test_a_thermostat_says_the_same_however_it_says_it() -> None:
    shown = {}
    for emits in odd.EMITTED:
        environment = CheckedEnvironment(gymnasium.make(odd.THERMOSTAT, emits=emits, disable_env_checker=True), "T")
        observations = [environment.reset(seed=1)[0]] + [environment.step(step % 2)[0] for step in range(30)]
        shown[emits] = np.array(observations)
        assert shown[emits].dtype == np.float32
    for emits in odd.EMITTED:
        if emits != "late-outside":
            np.testing.assert_array_equal(shown[emits], shown["float32"])


def test_one_buffer_for_all_observations_is_no_trap() -> None:
    environment = CheckedEnvironment(gymnasium.make(odd.BUFFERED, disable_env_checker=True), "Buffered")
    first, _ = environment.reset(seed=1)
    kept = first.copy()
    second, *_ = environment.step(0)
    np.testing.assert_array_equal(first, kept)
    assert (first != second).any()


def test_actions_arrive_in_their_own_dtype() -> None:
    space = Tuple((Box(-1.0, 1.0, (1,), np.float64), Discrete(2)))
    environment = Shows(FLOATS, np.zeros(2), actions=space)
    CheckedEnvironment(environment, "Boat-v0").step((np.array([0.5], np.float32), 1))
    assert environment.taken[0].dtype == np.float64
    assert environment.taken[1] == 1


@pytest.mark.parametrize("flag", [None, "no", [True, False]])
def test_flags_are_flags(flag: object) -> None:
    with pytest.raises(UnsoundEnvironmentError, match="terminated as True or False"):
        checked(FLOATS, np.zeros(2), 0.0, flag, False).step(0)


def test_other_ways_to_answer_are_named() -> None:
    with pytest.raises(UnsoundEnvironmentError, match="terminated, truncated and an info from step of Boat-v0"):
        checked(FLOATS, np.zeros(2), 0.0, False).step(0)
