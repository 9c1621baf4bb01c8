from __future__ import annotations

import pytest

from services.trainer.algorithms import ALGORITHMS, Algorithm, complete_settings
from services.trainer.algorithms.settings import MODEL, grouped, settings_of
from steersman.errors import InvalidArgumentError
from steersman.v1.trainer_pb2 import TrainingSettings

PPO = ALGORITHMS["PPO"]


@pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=ALGORITHMS)
def test_defaults_are_settings_that_rllib_knows(algorithm: Algorithm) -> None:
    complete = complete_settings(algorithm, algorithm.defaults)
    assert complete == complete_settings(algorithm, complete)
    assert complete.keys() == algorithm.defaults.keys()
    assert set(algorithm.learning_rates) <= complete.keys()


def test_given_settings_win_and_have_rllibs_types() -> None:
    complete = complete_settings(PPO, {"num_epochs": 3.0, "fcnet_hiddens": [16.0], "lr": 1})
    assert complete == PPO.defaults | {"num_epochs": 3, "fcnet_hiddens": [16], "lr": 1.0}
    assert isinstance(complete["num_epochs"], int)
    assert isinstance(complete["fcnet_hiddens"][0], int)


def test_unknown_setting_names_the_nearest() -> None:
    with pytest.raises(InvalidArgumentError, match=r"got 'fcnet_hidden'; near matches: fcnet_hiddens"):
        complete_settings(PPO, {"fcnet_hidden": [16]})


@pytest.mark.parametrize(
    "name", ["learner_class", "model", "self", "kwargs", "train_batch_size", "num_sgd_iter", "_deterministic_loss"]
)
def test_python_objects_and_relics_are_no_settings(name: str) -> None:
    for algorithm in ALGORITHMS.values():
        with pytest.raises(InvalidArgumentError, match=name):
            complete_settings(algorithm, {name: None})


def test_settings_of_one_algorithm_are_none_of_another() -> None:
    assert "clip_param" in settings_of(PPO)
    with pytest.raises(InvalidArgumentError, match="expected a setting of DQN"):
        complete_settings(ALGORITHMS["DQN"], {"clip_param": 0.1})


@pytest.mark.parametrize(("name", "value"), [("lr", "fast"), ("num_epochs", 1.5), ("fcnet_hiddens", 32), ("gamma", [])])
def test_wrong_type_names_the_setting(name: str, value: object) -> None:
    with pytest.raises(InvalidArgumentError, match=f"expected another value for {name}"):
        complete_settings(PPO, {name: value})


def test_typed_settings_have_rllibs_names() -> None:
    typed = TrainingSettings(lr=0.5, train_batch_size=64, hidden_layers=[8, 8], activation="relu", use_lstm=True)
    complete = complete_settings(PPO, {}, typed)
    assert (complete["lr"], complete["train_batch_size_per_learner"]) == (0.5, 64)
    assert (complete["fcnet_hiddens"], complete["fcnet_activation"], complete["use_lstm"]) == ([8, 8], "relu", True)


def test_a_typed_learning_rate_is_that_of_every_optimiser() -> None:
    complete = complete_settings(ALGORITHMS["SAC"], {}, TrainingSettings(lr=0.5))
    assert (complete["actor_lr"], complete["critic_lr"], complete["alpha_lr"]) == (0.5, 0.5, 0.5)
    assert "lr" not in complete


@pytest.mark.parametrize("field", ["entropy_coeff", "num_epochs", "minibatch_size"])
def test_typed_settings_that_an_algorithm_does_not_have_are_refused(field: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"setting that DQN has, got training.{field}"):
        complete_settings(ALGORITHMS["DQN"], {}, TrainingSettings(**{field: 1}))  # type: ignore[arg-type] # by name


def test_a_setting_is_given_once() -> None:
    complete_settings(PPO, {"lr": 0.5}, TrainingSettings(lr=0.5))
    with pytest.raises(InvalidArgumentError, match=r"one value for lr, got 0\.1 in `settings` and 0\.5 in `training`"):
        complete_settings(PPO, {"lr": 0.1}, TrainingSettings(lr=0.5))


def test_settings_go_where_rllib_takes_them() -> None:
    groups = grouped(PPO, {"lr": 1.0, "fcnet_hiddens": [8], "min_time_s_per_iteration": 1})
    assert groups == {
        "training": {"lr": 1.0},
        MODEL: {"fcnet_hiddens": [8]},
        "reporting": {"min_time_s_per_iteration": 1},
    }
