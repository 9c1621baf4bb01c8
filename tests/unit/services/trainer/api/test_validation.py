from __future__ import annotations

import math

import pytest

from services.trainer.api import validation
from steersman.errors import InvalidArgumentError
from steersman.v1.trainer_pb2 import Environment, RunSpec, StopCriteria
from tests import odd_environments as odd
from tests.integration.services.trainer import unusual_environments

ONE = StopCriteria(iterations=1)


def spec(
    policy: str = "cartpole", environment: str = "CartPole-v1", algorithm: str = "PPO", stop: StopCriteria = ONE
) -> RunSpec:
    return RunSpec(policy=policy, environment=Environment(id=environment), algorithm=algorithm, stop=stop)


def test_defaults_are_filled_in() -> None:
    completed, bundles = validation.complete(spec())
    assert completed.HasField("num_env_runners")
    assert completed.num_env_runners == 0
    assert completed.num_envs_per_env_runner == 32
    assert completed.HasField("seed")
    assert "lr" in completed.settings
    assert len(bundles) == 1


def test_what_was_asked_for_stays() -> None:
    asked = spec()
    asked.num_env_runners, asked.num_envs_per_env_runner, asked.seed = 2, 4, 0
    asked.settings.update({"lr": 0.5})
    completed, bundles = validation.complete(asked)
    assert (completed.num_env_runners, completed.num_envs_per_env_runner, completed.seed) == (2, 4, 0)
    assert completed.settings["lr"] == 0.5
    assert len(bundles) == 3
    assert asked.settings.keys() == {"lr"}


def test_completing_twice_changes_nothing() -> None:
    completed, _ = validation.complete(spec())
    assert validation.complete(completed)[0] == completed


def test_seeds_differ_from_run_to_run() -> None:
    assert len({validation.complete(spec())[0].seed for _ in range(3)}) > 1


@pytest.mark.parametrize("name", ["", "Cart", "cart pole", "a/b", "../x", "a" * 65, "pölicy", "a\n"])
def test_policy_name(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="policy name"):
        validation.complete(spec(policy=name))


@pytest.mark.parametrize(
    ("stop", "message"),
    [
        (StopCriteria(), "at least one stop criterion"),
        (StopCriteria(episode_return=math.nan), "finite stop.episode_return"),
        (StopCriteria(episode_return=math.inf), "finite stop.episode_return"),
        (StopCriteria(seconds=-1, iterations=1), "stop.seconds of at least 0"),
        (StopCriteria(seconds=math.inf), "stop.seconds of at least 0"),
    ],
)
def test_stop_criteria(stop: StopCriteria, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        validation.complete(spec(stop=stop))


def test_a_return_of_zero_is_a_criterion() -> None:
    validation.check_stop(StopCriteria(episode_return=0.0))


def test_unknown_algorithm() -> None:
    with pytest.raises(InvalidArgumentError, match=r"expected an algorithm among PPO, .*, got 'ppo'; near match: PPO"):
        validation.complete(spec(algorithm="ppo"))


def test_spaces_that_cannot_be_exported_are_refused_before_training() -> None:
    unusual_environments.register()
    with pytest.raises(InvalidArgumentError, match="observation space"):
        validation.complete(spec(environment=unusual_environments.TEXTS))


def test_a_spec_that_mlflow_could_not_hold_is_refused() -> None:
    asked = spec()
    asked.settings.update({"fcnet_hiddens": [8] * 3000})
    with pytest.raises(InvalidArgumentError, match="at most 8000 characters"):
        validation.complete(asked)


@pytest.mark.parametrize(
    ("algorithm", "environment", "message"),
    [
        ("SAC", "CartPole-v1", r"expected an environment with Box actions for SAC, got .*; use PPO, .* DQN"),
        ("TQC", "CartPole-v1", "expected an environment with Box actions for TQC"),
        ("DQN", "Pendulum-v1", "expected an environment with Discrete actions for DQN, got .*; use PPO, .* SAC"),
    ],
)
def test_actions_that_are_not_for_the_algorithm(algorithm: str, environment: str, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        validation.complete(spec(algorithm=algorithm, environment=environment))


def test_a_module_in_the_id_needs_code() -> None:
    with pytest.raises(InvalidArgumentError, match="comes with `code`"):
        validation.check_request(spec(environment="boat:Boat-v0"))


def test_recordings_are_for_algorithms_that_learn_from_them() -> None:
    asked = spec()
    asked.dataset = "somewhere"
    with pytest.raises(InvalidArgumentError, match="expected no dataset for PPO"):
        validation.check_request(asked)
    with pytest.raises(InvalidArgumentError, match=r"expected a dataset for BC, .*`steersman record`"):
        validation.check_request(spec(algorithm="BC"))
    asked = spec(algorithm="BC")
    asked.dataset = "/nowhere"
    with pytest.raises(InvalidArgumentError, match="cannot read the dataset '/nowhere'"):
        validation.check_request(asked)


def room(**settings: list[list[int]] | list[int]) -> RunSpec:
    """Asks for a policy that sees nothing but a picture of 7 by 7."""
    asked = spec(environment=odd.ROOM)
    asked.environment.wrappers.add(path="tests.odd_environments:ImageOnly")
    asked.settings.update(dict(settings))
    return asked


def test_pictures_too_small_for_rllibs_filters_are_refused_with_filters_that_work() -> None:
    with pytest.raises(InvalidArgumentError, match=r"such as --set 'conv_filters=\[\[16, 3, 2\], \[32, 3, 2\]\]'"):
        validation.complete(room())
    validation.complete(room(conv_filters=[[16, 3, 2], [32, 3, 2]]))
    # Larger than the picture, which RLlib pads.
    validation.complete(room(conv_filters=[[16, 9, 1], [32, 9, 1]]))


def test_what_are_no_filters_is_refused_as_such() -> None:
    with pytest.raises(InvalidArgumentError, match="conv_filters"):
        validation.complete(room(conv_filters=[16, 3]))


def test_parts_that_come_with_the_code_are_found_where_it_is() -> None:
    asked = spec()
    asked.callbacks.append("own_parts_of_somebody:Callbacks")
    asked.connectors.env_to_module.add(path="own_parts_of_somebody:Piece")
    with pytest.raises(InvalidArgumentError, match="cannot import 'own_parts_of_somebody"):
        validation.complete(asked)
    asked.code.working_dir = "/somewhere"
    completed, _ = validation.complete(asked)
    assert completed.connectors == asked.connectors
    assert completed.callbacks == asked.callbacks
