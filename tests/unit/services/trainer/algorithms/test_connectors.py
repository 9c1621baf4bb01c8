from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete, Space, Tuple
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.connectors.env_to_module.observation_preprocessor import SingleAgentObservationPreprocessor

from services.trainer import algorithms
from services.trainer.environments.environment_spaces import EnvironmentSpaces
from services.trainer.environments.own_returns import OwnReturns
from steersman.errors import FailedPreconditionError, InvalidArgumentError
from steersman.v1 import trainer_pb2

VECTOR = Box(-1.0, 1.0, (4,), np.float32)
GREY = Box(0, 255, (42, 42, 1), np.uint8)
COLOUR = Box(0, 255, (42, 42, 3), np.uint8)
CHOICE: Space[Any] = Discrete(3)
FORCE = Box(-2.0, 2.0, (2,), np.float32)


class Doubled(SingleAgentObservationPreprocessor):  # type: ignore[misc] # RLlib has no types
    """Is the user's own, and unknown to the exporter."""

    def __init__(self, by: float = 2.0) -> None:
        super().__init__()
        self.by = by

    def preprocess(self, observation: Any, episode: Any) -> Any:  # noqa: ANN401
        return observation * np.float32(self.by)


class Watcher(RLlibCallback):  # type: ignore[misc] # RLlib has no types
    """Is the user's own, and does nothing."""


def built(
    observations: Space[Any],
    actions: Space[Any] = CHOICE,
    algorithm: str = "PPO",
    module: str = "",
    **chosen: Any,  # noqa: ANN401
) -> Any:  # noqa: ANN401 - RLlib has no types
    spec = trainer_pb2.RunSpec(
        policy="boat",
        environment=trainer_pb2.Environment(id="Boat-v0"),
        algorithm=algorithm,
        module_class=module,
        num_envs_per_env_runner=1,
        connectors=trainer_pb2.Connectors(**chosen),
        callbacks=[f"{__name__}:Watcher"],
    )
    return algorithms.build_config(spec, EnvironmentSpaces(observations, actions))


def before(*arguments: Any, **chosen: Any) -> list[str]:  # noqa: ANN401
    config = built(*arguments, **chosen)
    return [type(piece).__name__ for piece in config._env_to_module_connector(None, None, None)]


def behind(*arguments: Any, **chosen: Any) -> list[str]:  # noqa: ANN401
    config = built(*arguments, **chosen)
    names = [type(piece).__name__ for piece in config._module_to_env_connector(None, None)]
    assert config.normalize_actions == ("FitActions" not in names)
    assert not config.clip_actions
    return names


@pytest.mark.parametrize(
    ("space", "chosen", "expected"),
    [
        (VECTOR, {}, []),
        (VECTOR, {"normalize": True}, ["MeanStdFilter"]),
        (Box(0, 9, (3,), np.int64), {"normalize": True}, ["FlattenObservations", "MeanStdFilter"]),
        (Discrete(5, start=-2), {}, ["CountFromZero", "FlattenObservations"]),
        (MultiDiscrete(np.array([[2, 3], [2, 2]])), {}, ["CountFromZero", "FlattenObservations"]),
        (Dict({"a": Tuple((Discrete(2, start=1), VECTOR))}), {}, ["CountFromZero", "FlattenObservations"]),
        (VECTOR, {"previous_action": True}, ["PrevActionsPrevRewards", "FlattenObservations"]),
        (
            Discrete(3, start=1),
            {"previous_reward": True, "normalize": True},
            ["CountFromZero", "PrevActionsPrevRewards", "FlattenObservations", "MeanStdFilter"],
        ),
        (GREY, {"frame_stack": 4}, ["ScaleImages", "FrameStacking"]),
        (GREY, {"frame_stack": 4, "normalize": True}, ["ScaleImages", "MeanStdFilter", "FrameStacking"]),
        (COLOUR, {"normalize": True}, ["ScaleImages", "MeanStdFilter"]),
    ],
    ids=str,
)
def test_what_is_chosen_comes_before_the_network(
    space: Space[Any], chosen: dict[str, Any], expected: list[str]
) -> None:
    assert before(space, **chosen) == expected


def test_frames_that_are_stacked_are_kept_and_stacked_for_the_learner_too() -> None:
    config = built(GREY, frame_stack=4)
    assert config.episode_lookback_horizon == 4
    assert [type(piece).__name__ for piece in config._learner_connector(None, None)] == ["FrameStacking"]


@pytest.mark.parametrize(
    ("actions", "chosen", "expected"),
    [
        (FORCE, {}, []),
        (FORCE, {"clip_actions": True}, ["FitActions"]),
        (Discrete(3, start=1), {}, ["FitActions"]),
        (Box(0.0, np.inf, (2,), np.float32), {}, ["FitActions"]),
        (Box(-np.inf, np.inf, (2,), np.float32), {}, []),
        (Dict({"gear": Discrete(2, start=1), "push": FORCE}), {}, ["FitActions"]),
    ],
    ids=str,
)
def test_actions_are_fitted_where_rllib_does_not(
    actions: Space[Any], chosen: dict[str, Any], expected: list[str]
) -> None:
    assert behind(VECTOR, actions, **chosen) == expected


@pytest.mark.parametrize(
    ("observations", "actions", "algorithm", "chosen", "message"),
    [
        (VECTOR, FORCE, "PPO", {"previous_action": True}, "expected Discrete actions for previous_action"),
        (VECTOR, FORCE, "PPO", {"previous_reward": True}, "expected Discrete actions .* use_lstm"),
        (COLOUR, CHOICE, "PPO", {"previous_action": True}, "expected observations that are no pictures"),
        (VECTOR, CHOICE, "PPO", {"frame_stack": 4}, r"expected pictures of shape \[height, width, 1\] .*use_lstm"),
        (COLOUR, CHOICE, "PPO", {"frame_stack": 4}, "GrayscaleObservation"),
        (GREY, CHOICE, "PPO", {"frame_stack": 1}, "expected a frame_stack of 2 to 64 pictures, .* got 1"),
        (GREY, CHOICE, "DQN", {"frame_stack": 4}, "expected one of APPO, IMPALA, PPO for frame_stack"),
        (VECTOR, CHOICE, "PPO", {"clip_actions": True}, r"expected Box actions for clip_actions, got Discrete\(3\)"),
        (VECTOR, FORCE, "SAC", {"clip_actions": True}, "expected no clip_actions for SAC"),
        (VECTOR, CHOICE, "BC", {"normalize": True}, "no connectors before the network for BC, .*, got normalize"),
        (
            VECTOR,
            CHOICE,
            "PPO",
            {"env_to_module": [trainer_pb2.Connector(path="builtins:dict")]},
            'expected "package.module:Class" of a ConnectorV2 as the connector',
        ),
        (VECTOR, CHOICE, "PPO", {"module_to_env": [trainer_pb2.Connector(path="no.such:Piece")]}, "cannot import"),
    ],
)
def test_what_does_not_go_is_refused(
    observations: Space[Any], actions: Space[Any], algorithm: str, chosen: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        built(observations, actions, algorithm, **chosen)


def test_a_network_of_ones_own_is_normalised_for_if_it_takes_numbers() -> None:
    module = "ray.rllib.algorithms.bc.torch.default_bc_torch_rl_module:DefaultBCTorchRLModule"
    with pytest.raises(InvalidArgumentError, match="a Box of floats for normalize with a network of your own"):
        built(Discrete(3), module=module, normalize=True)


def test_a_connector_of_ones_own_is_made_with_its_arguments_and_refused_unless_it_can_be_exported() -> None:
    connector = trainer_pb2.Connector(path=f"{__name__}:Doubled")
    connector.kwargs.update({"by": 3})
    with pytest.raises(FailedPreconditionError, match="cannot export the env-to-module connector piece Doubled"):
        built(VECTOR, env_to_module=[connector])
    connector.kwargs.update({"no_such": 3})
    with pytest.raises(InvalidArgumentError, match=r"expected arguments that the connector .* takes, got .*no_such"):
        built(VECTOR, env_to_module=[connector])


def test_a_known_piece_may_be_named_too() -> None:
    connector = trainer_pb2.Connector(path="ray.rllib.connectors.env_to_module.mean_std_filter:MeanStdFilter")
    connector.kwargs.update({"clip_by_value": 5})
    assert before(VECTOR, env_to_module=[connector]) == ["MeanStdFilter"]


def test_callbacks_of_ones_own_are_called_besides_ours() -> None:
    assert built(VECTOR).callbacks_class == [OwnReturns, Watcher]


@pytest.mark.parametrize("algorithm", ["SAC", "TQC", "CQL", "IQL"])
@pytest.mark.parametrize("low", [-np.inf, 0.0])
def test_what_scales_to_bounds_needs_bounds(algorithm: str, low: float) -> None:
    with pytest.raises(InvalidArgumentError, match=f"finite bounds for {algorithm}, .* use .* instead, or a wrapper"):
        built(VECTOR, Box(low, np.inf, (2,), np.float32), algorithm)
