from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from google.protobuf import json_format

from steersman.arguments import set_kwargs
from steersman.environments.making import make_environment
from steersman.errors import FailedPreconditionError, InvalidArgumentError
from steersman.v1.trainer_pb2 import Environment, EnvironmentWrapper


def described(environment_id: str, kwargs: dict[str, Any] | None = None, *wrappers: dict[str, Any]) -> Environment:
    values = {"id": environment_id, "kwargs": kwargs or {}, "wrappers": list(wrappers)}
    return json_format.ParseDict(values, Environment())


def test_arguments_reach_the_environment() -> None:
    assert make_environment(described("Pendulum-v1", {"g": 1})).unwrapped.g == 1  # type: ignore[attr-defined] # Pendulum's
    with pytest.raises(InvalidArgumentError, match=r"CartPole-v1 takes, got \{'gravity': 1\}"):
        make_environment(described("CartPole-v1", {"gravity": 1}))


def test_unknown_environment_names_near_matches() -> None:
    with pytest.raises(InvalidArgumentError, match=r"got 'Cartpole-v1'; near matches: .*CartPole-v1"):
        make_environment(described("Cartpole-v1"))


def test_a_module_registers_its_environments() -> None:
    assert make_environment(described("gymnasium.envs:CartPole-v1")).spec
    with pytest.raises(InvalidArgumentError, match="cannot import 'no_such' of environment 'no_such:Boat-v0'"):
        make_environment(described("no_such:Boat-v0"))


def test_wrappers_go_around_it_the_innermost_first() -> None:
    made = make_environment(
        described(
            "CartPole-v1",
            None,
            {"path": "gymnasium.wrappers:TimeAwareObservation", "kwargs": {"flatten": False}},
            {"path": "gymnasium.wrappers:FilterObservation", "kwargs": {"filter_keys": ["time"]}},
        )
    )
    assert isinstance(made.observation_space, gymnasium.spaces.Dict)
    assert list(made.observation_space) == ["time"]


def doubled(environment: gymnasium.Env[Any, Any], factor: int = 2) -> gymnasium.Env[Any, Any]:
    space = environment.observation_space
    assert isinstance(space, gymnasium.spaces.Box)
    return gymnasium.wrappers.TransformObservation(environment, lambda seen: factor * seen, space)


def no_environment(_: object) -> int:
    return 3


def test_a_function_is_a_wrapper_too() -> None:
    plain, wrapped = (
        make_environment(described("CartPole-v1", None, *wrappers)).reset(seed=1)[0]
        for wrappers in ((), ({"path": f"{__name__}:doubled", "kwargs": {"factor": 3}},))
    )
    np.testing.assert_allclose(wrapped, 3 * plain)


@pytest.mark.parametrize(
    ("wrapper", "message"),
    [
        ({"path": "gymnasium.wrappers:NoSuch"}, "cannot import the wrapper"),
        ({"path": "no.such:Wrapper"}, "cannot import the wrapper"),
        ({"path": "gymnasium.wrappers"}, 'expected "package.module:Name"'),
        ({"path": "math:pi"}, 'expected "package.module:Name"'),
        ({"path": "gymnasium.wrappers:ReshapeObservation"}, "expected a wrapper that goes around"),
        ({"path": f"{__name__}:no_environment"}, "expected an environment from the wrapper"),
    ],
)
def test_what_is_no_wrapper_is_refused(wrapper: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        make_environment(described("CartPole-v1", None, wrapper))


@pytest.mark.parametrize(
    ("environment_id", "package", "extra"),
    [("ALE/Pong-v5", "ale_py", "atari"), ("Ant-v5", "mujoco", "mujoco"), ("LunarLander-v3", "Box2D", "box2d")],
)
def test_a_missing_extra_is_named(environment_id: str, package: str, extra: str) -> None:
    try:
        __import__(package)
    except ImportError:
        with pytest.raises(FailedPreconditionError, match=rf"pip install 'steersman\[{extra}\]'"):
            make_environment(described(environment_id))
    else:
        assert make_environment(described(environment_id)).spec


class Ramp(gymnasium.Env[Any, Any]):
    """Minds the types of its arguments, as NumPy does."""

    def __init__(self, start: Any, limits: Any, gains: Any, serial: int, label: str | None) -> None:  # noqa: ANN401
        self.observation_space = gymnasium.spaces.Box(limits["low"], limits["high"], (2,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(len(gains))
        # An array of whole numbers if `start` is one; then adding a fraction raises.
        self.state = np.full(2, start)
        self.state += 0.25
        self.steps = list(range(limits["steps"]))
        self.right = serial % 10 % len(gains)
        self.label = label


def test_arguments_keep_their_types_on_the_way_to_the_environment() -> None:
    gymnasium.register("Ramp-v0", f"{__name__}:Ramp")
    limits = {"low": -50.0, "high": 50.0, "steps": 20}
    ramp = Environment(id="Ramp-v0")
    set_kwargs(
        ramp, {"start": 10.0, "limits": limits, "gains": [-1.0, 0.0, 1.0], "serial": 9007199254740993, "label": None}
    )
    made = make_environment(Environment.FromString(ramp.SerializeToString())).unwrapped
    assert isinstance(made, Ramp)
    assert made.state.tolist() == [10.25, 10.25]
    assert made.right == 0, "3 modulo 3"
    assert made.label is None


class Weighted(gymnasium.RewardWrapper[Any, Any]):
    """Minds the types of its arguments, too."""

    def __init__(self, environment: gymnasium.Env[Any, Any], weights: list[float], repeats: int) -> None:
        super().__init__(environment)
        self.weights, self.repeats = weights, list(range(repeats))

    def reward(self, reward: Any) -> Any:  # noqa: ANN401 - Gymnasium's signature
        return reward


def test_arguments_of_wrappers_keep_their_types() -> None:
    wrapper = EnvironmentWrapper(path=f"{__name__}:Weighted")
    set_kwargs(wrapper, {"weights": [1.0, 2.5], "repeats": 3})
    made: Any = make_environment(Environment(id="CartPole-v1", wrappers=[wrapper]))
    while not isinstance(made, Weighted):
        made = made.env
    assert repr(made.weights) == "[1.0, 2.5]"
    assert made.repeats == [0, 1, 2]
