from __future__ import annotations

import pytest

from services.trainer import algorithms
from steersman.errors import InvalidArgumentError
from steersman.v1 import trainer_pb2


def spec(**settings: float | str | list[int]) -> trainer_pb2.RunSpec:
    made = trainer_pb2.RunSpec(
        policy="cartpole",
        environment=trainer_pb2.Environment(id="CartPole-v1"),
        algorithm="PPO",
        num_env_runners=2,
        num_envs_per_env_runner=8,
        seed=1,
    )
    made.settings.update(dict(settings))
    return made


def test_defaults_are_settings_that_rllib_knows() -> None:
    assert algorithms.complete_settings(algorithms.DEFAULTS) == algorithms.DEFAULTS


def test_given_settings_win_and_have_rllibs_types() -> None:
    complete = algorithms.complete_settings({"num_epochs": 3.0, "fcnet_hiddens": [16.0], "lr": 1})
    assert complete == algorithms.DEFAULTS | {"num_epochs": 3, "fcnet_hiddens": [16], "lr": 1.0}
    assert isinstance(complete["num_epochs"], int)
    assert isinstance(complete["fcnet_hiddens"][0], int)


def test_unknown_setting_names_the_nearest() -> None:
    with pytest.raises(InvalidArgumentError, match=r"got 'fcnet_hidden'; near matches: fcnet_hiddens"):
        algorithms.complete_settings({"fcnet_hidden": [16]})


@pytest.mark.parametrize("name", ["learner_class", "model", "self", "kwargs", "train_batch_size", "num_sgd_iter"])
def test_python_objects_and_relics_are_no_settings(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match=name):
        algorithms.complete_settings({name: None})


@pytest.mark.parametrize(("name", "value"), [("lr", "fast"), ("num_epochs", 1.5), ("fcnet_hiddens", 32), ("gamma", [])])
def test_wrong_type_names_the_setting(name: str, value: object) -> None:
    with pytest.raises(InvalidArgumentError, match=f"expected another value for {name}"):
        algorithms.complete_settings({name: value})


def test_config_has_what_was_asked_for() -> None:
    config = algorithms.build_config(spec(lr=0.5, fcnet_hiddens=[16]))
    assert (config.lr, config.num_epochs) == (0.5, algorithms.DEFAULTS["num_epochs"])
    assert config.model_config["fcnet_hiddens"] == [16]
    assert (config.num_env_runners, config.num_envs_per_env_runner, config.seed) == (2, 8, 1)
    assert algorithms.bundles(config) == [{"CPU": algorithms.CPUS_PER_PROCESS}] * 3


def test_settings_that_do_not_go_together_are_refused_in_rllibs_words() -> None:
    with pytest.raises(InvalidArgumentError, match="minibatch_size"):
        algorithms.build_config(spec(minibatch_size=10_000))


def test_model_that_rllib_cannot_build_is_refused() -> None:
    algorithms.check_model(spec())
    with pytest.raises(InvalidArgumentError, match="wavelet"):
        algorithms.check_model(spec(fcnet_activation="wavelet"))


def test_recurrent_policies_are_refused_before_they_are_trained() -> None:
    with pytest.raises(InvalidArgumentError, match="use_lstm"):
        algorithms.build_config(spec(use_lstm=True))
