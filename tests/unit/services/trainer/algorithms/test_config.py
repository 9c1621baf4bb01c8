from __future__ import annotations

import pytest

from services.trainer import algorithms
from steersman.errors import InvalidArgumentError
from steersman.v1 import trainer_pb2
from tests.integration.services.trainer import unusual_environments


def spec(environment: str = "CartPole-v1", /, **settings: float | str | list[int]) -> trainer_pb2.RunSpec:
    made = trainer_pb2.RunSpec(
        policy="cartpole",
        environment=trainer_pb2.Environment(id=environment),
        algorithm="PPO",
        num_env_runners=2,
        num_envs_per_env_runner=8,
        seed=1,
    )
    made.settings.update(dict(settings))
    return made


def test_config_has_what_was_asked_for() -> None:
    config = algorithms.build_config(spec(lr=0.5, fcnet_hiddens=[16]))
    assert (config.lr, config.num_epochs) == (0.5, algorithms.ALGORITHMS["PPO"].defaults["num_epochs"])
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


def pieces(environment: str, **settings: float) -> list[str]:
    """Names the connector pieces that a run puts before its network."""
    made = algorithms.build_config(spec(environment, **settings))
    return [type(piece).__name__ for piece in made._env_to_module_connector(None, None, None)]


def test_observations_are_brought_to_what_networks_take() -> None:
    unusual_environments.register()
    assert pieces("CartPole-v1") == []
    assert pieces("CartPole-v1", use_lstm=True) == []
    assert pieces("FrozenLake-v1") == ["FlattenObservations"]
    assert pieces(unusual_environments.ODD) == ["FlattenObservations"]
    assert pieces(unusual_environments.IMAGES) == ["ScaleImages"]


@pytest.mark.parametrize("environment", ["FrozenLake-v1", unusual_environments.IMAGES])
@pytest.mark.parametrize("use_lstm", [False, True])
def test_networks_for_these_are_built(environment: str, use_lstm: bool) -> None:
    unusual_environments.register()
    algorithms.check_model(spec(environment, use_lstm=use_lstm))


def test_a_network_of_ones_own_is_taken() -> None:
    asked = spec()
    asked.module_class = "ray.rllib.algorithms.bc.torch.default_bc_torch_rl_module:DefaultBCTorchRLModule"
    assert algorithms.build_config(asked).rl_module_spec.module_class.__name__ == "DefaultBCTorchRLModule"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no.such:Thing", "No module named 'no'"),
        ("json:Thing", "has no attribute 'Thing'"),
        ("json:loads", "of an RLModule"),
        ("json", "of an RLModule"),
    ],
)
def test_what_is_no_network_is_refused(path: str, message: str) -> None:
    asked = spec()
    asked.module_class = path
    with pytest.raises(InvalidArgumentError, match=message):
        algorithms.build_config(asked)
