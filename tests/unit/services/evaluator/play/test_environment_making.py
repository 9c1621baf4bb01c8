from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from services.common.episodes import Rollout, Step
from services.evaluator.play.environment_making import Recipe, check_spaces, close_environments, make_environments
from steersman import spaces
from steersman.environments.checked import UnsoundEnvironmentError
from steersman.environments.making import Environment
from steersman.environments.raw_rewards import RAW_REWARD
from steersman.errors import InvalidArgumentError
from steersman.v1 import common_pb2, trainer_pb2
from steersman.v1.trainer_pb2 import EnvironmentWrapper
from tests import odd_environments as odd


class Unclosable(gymnasium.Env[Any, Any]):
    """Counts how often it is asked to close."""

    asked = 0

    def close(self) -> None:
        self.asked += 1
        raise RuntimeError("stuck")


def recipe(
    environment_id: str, wrappers: tuple[EnvironmentWrapper, ...] = (), kwargs: dict[str, Any] | None = None
) -> Recipe:
    environment = trainer_pb2.Environment(id=environment_id, wrappers=wrappers)
    environment.kwargs.update(kwargs or {})
    return Recipe(environment)


def made(environment_id: str, kwargs: dict[str, Any], count: int = 1) -> list[Environment]:
    environments: list[Environment] = []
    make_environments(recipe(environment_id, kwargs=kwargs), count, environments)
    close_environments(environments)
    return environments


def spec_of(environment_id: str) -> common_pb2.PolicySpec:
    environment = gymnasium.make(environment_id)
    return common_pb2.PolicySpec(
        observation_space=spaces.from_gymnasium(environment.observation_space),
        action_space=spaces.from_gymnasium(environment.action_space),
    )


def test_environments_are_made_with_their_arguments() -> None:
    environments = made("CartPole-v1", {"max_episode_steps": 7}, 3)
    assert len({id(environment) for environment in environments}) == 3
    assert environments[0].spec is not None
    assert environments[0].spec.max_episode_steps == 7


@pytest.mark.parametrize(
    ("environment_id", "kwargs", "words"),
    [
        ("CartPol-v1", {}, "near matches: CartPole-v1"),
        ("", {}, "expected a registered Gymnasium environment, got ''"),
        ("CartPole-v1", {"no_such": 1}, "expected arguments that CartPole-v1 takes, got {'no_such': 1}.*no_such"),
        ("CartPole-v1", {"max_episode_steps": 0}, "max_episode_steps"),
        ("CartPole-v1", {"render_mode": ["x"]}, "CartPole-v1 with {'render_mode': .*'x'.*} raised AttributeError"),
    ],
)
def test_what_cannot_be_made_is_refused(environment_id: str, kwargs: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        made(environment_id, kwargs)


def test_all_are_closed_even_if_one_cannot_be() -> None:
    environments = [Unclosable(), Unclosable()]
    close_environments(list(environments))
    assert [environment.asked for environment in environments] == [1, 1]


def test_the_difference_between_spaces_is_named() -> None:
    check_spaces(gymnasium.make("CartPole-v1"), spec_of("CartPole-v1"))
    with pytest.raises(
        InvalidArgumentError, match=r"observation space Box.*\(4,\), float32\).*got Box.*\(3,\), float32"
    ):
        check_spaces(gymnasium.make("Pendulum-v1"), spec_of("CartPole-v1"))
    spec = spec_of("CartPole-v1")
    spec.action_space.discrete.n = 3
    with pytest.raises(InvalidArgumentError, match=r"action space Discrete\(3\), as the policy has, got Discrete\(2\)"):
        check_spaces(gymnasium.make("CartPole-v1"), spec)


def test_spaces_with_parts_are_compared_too() -> None:
    environment = gymnasium.make("Blackjack-v1")
    spec = spec_of("Blackjack-v1")
    check_spaces(environment, spec)
    spec.observation_space.tuple.parts[1].discrete.n = 12
    with pytest.raises(
        InvalidArgumentError,
        match=r"space Tuple\(Discrete\(32\), Discrete\(12\), .*got Tuple\(Discrete\(32\), Discrete\(11\)",
    ):
        check_spaces(environment, spec)


def test_wrappers_change_rewards_but_not_returns() -> None:
    """Every reward is halved by one wrapper, and the other one repeats each action."""
    wrappers = (
        EnvironmentWrapper(path=f"{__name__}:halved"),
        EnvironmentWrapper(path=f"{__name__}:Twice"),
    )
    environments: list[Environment] = []
    make_environments(recipe("CartPole-v1", wrappers), 1, environments)
    (environment,) = environments
    environment.reset(seed=1)
    for _ in range(3):
        _, reward, _, _, info = environment.step(0)
        assert (reward, info[RAW_REWARD]) == (1.0, 2.0)


def halved(environment: Environment) -> Environment:
    return gymnasium.wrappers.TransformReward(environment, lambda reward: float(reward) / 2)


class Twice(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Takes each action twice, and one step in a reset, which belongs to no episode."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self.env.reset(seed=seed, options=options)
        observation, *_ = self.env.step(1)
        return observation, {}

    def step(self, action: int) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        _, first, *_ = self.env.step(action)
        observation, second, terminated, truncated, info = self.env.step(action)
        return observation, float(first) + float(second), terminated, truncated, info


def test_a_file_that_is_missing_is_not_blamed_on_the_arguments() -> None:
    gymnasium.register("Mapless-v0", entry_point=mapless)
    with pytest.raises(InvalidArgumentError, match=r"but Mapless-v0 raised FileNotFoundError: .*no/such/map.json"):
        made("Mapless-v0", {})


def mapless(**_: object) -> Environment:
    with Path("no/such/map.json").open():
        raise AssertionError


async def test_nan_ends_an_evaluation() -> None:
    async def act(step: Step) -> list[int]:
        return [0] * len(step.observations)

    environments: list[Environment] = []
    make_environments(recipe(odd.THERMOSTAT, kwargs={"emits": "late-nan"}), 2, environments)
    rollout = Rollout(environments, range(4), 0)
    with pytest.raises(UnsoundEnvironmentError, match="observations without NaN from step of"):
        async for _ in rollout.play(act):
            pass


@pytest.mark.parametrize(
    ("environment", "argument", "values"),
    [
        (odd.SCALES, "reward", odd.SOUND_REWARDS),
        (odd.THERMOSTAT, "emits", odd.EMITTED[:-1]),
        (odd.BUFFERED, "reuses", (True, False)),
    ],
)
async def test_reports_are_the_same_however_things_are_handed_out(
    environment: str, argument: str, values: tuple[Any, ...]
) -> None:
    async def act(step: Step) -> list[int]:
        # Looks at all observations at once, as a request to the gateway does.
        return [int(np.asarray(observation)[0] > 0) for observation in step.observations]

    reports = []
    for value in values:
        environments: list[Environment] = []
        make_environments(recipe(environment, kwargs={argument: value}), 3, environments)
        rollout = Rollout(environments, range(6), 0)
        async for _ in rollout.play(act):
            pass
        reports.append(rollout.episodes)
    assert all(report == reports[0] for report in reports)
