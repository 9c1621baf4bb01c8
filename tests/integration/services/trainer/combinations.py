"""What can be exported: algorithms, spaces, models and connectors, each combination as the parity tests train it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, Tuple
from ray.rllib.connectors.env_to_module import FlattenObservations, MeanStdFilter
from ray.rllib.connectors.env_to_module.frame_stacking import FrameStackingEnvToModule
from ray.rllib.connectors.env_to_module.prev_actions_prev_rewards import PrevActionsPrevRewards
from ray.rllib.connectors.learner.frame_stacking import FrameStackingLearner
from ray.rllib.examples.rl_modules.classes.action_masking_rlm import ActionMaskingTorchRLModule

from services.trainer.export.action_fit import FitActions
from services.trainer.export.counting import CountFromZero
from services.trainer.export.image_scaling import ScaleImages

VECTOR = Box(-5.0, 5.0, (4,), np.float32)
IMAGE = Box(0, 255, (42, 42, 1), np.uint8)
NESTED = Dict(
    {
        "camera": Box(0, 255, (2, 2), np.uint8),
        "gear": Discrete(3),
        "joints": Tuple((VECTOR, MultiBinary(2), MultiDiscrete([2, 3]))),
    }
)
MASKED = Dict({"action_mask": Box(0.0, 1.0, (3,), np.float32), "observations": VECTOR})
CHOICE: Space[Any] = Discrete(3)
FORCES = Box(np.array([-2.0, 0.0], np.float32), np.array([2.0, 1.0], np.float32))
HALF_BOUNDED = Box(np.array([-2.0, 0.0], np.float32), np.array([2.0, np.inf], np.float32))
SHIFTED = Dict({"floor": Discrete(3, start=-1), "table": MultiDiscrete(np.array([[2, 3], [4, 2]]))})
GEARED_PUSH = Dict({"gear": Discrete(2, start=1), "push": FORCES})
NESTED_ACTION = Dict({"push": FORCES, "gear": CHOICE, "lights": Tuple((MultiDiscrete([2, 3]), CHOICE))})

LSTM = {"use_lstm": True, "max_seq_len": 8, "lstm_cell_size": 16}
UNSCALED = {"normalize_actions": False, "clip_actions": False}


@dataclass(frozen=True)
class Combination:
    """How a policy is trained.

    Attributes:
        algorithm: RLlib's name.
        observations: Space of the observations.
        actions: Space of the actions.
        model: Settings of RLlib's default model.
        env_to_module: Makes the connector pieces before the module.
        module_to_env: Makes the connector pieces behind it.
        environment: Settings of `AlgorithmConfig.environment`.
        training: Settings of `AlgorithmConfig.training`.
        module_class: A custom `RLModule`.
        is_rare: Whether it is tested with the long tests only: it takes ten seconds, and others have its parts.
    """

    algorithm: str
    observations: Space[Any]
    actions: Space[Any]
    model: Mapping[str, Any] = field(default_factory=dict)
    env_to_module: Callable[[], list[Any]] = list
    module_to_env: Callable[[], list[Any]] = list
    environment: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    module_class: type | None = None
    is_rare: bool = False

    @property
    def is_offline(self) -> bool:
        """Whether it learns from recorded episodes."""
        return self.algorithm in ("BC", "MARWIL", "CQL", "IQL")


COMBINATIONS = (
    Combination("PPO", VECTOR, CHOICE, env_to_module=lambda: [MeanStdFilter()]),
    Combination("PPO", VECTOR, FORCES, {"vf_share_layers": True}, env_to_module=lambda: [MeanStdFilter()]),
    Combination("PPO", VECTOR, FORCES, {"free_log_std": True}, environment={**UNSCALED, "clip_actions": True}),
    Combination(
        "PPO",
        VECTOR,
        Discrete(3, start=5),
        module_to_env=lambda: [FitActions()],
        environment=UNSCALED,
    ),
    Combination("PPO", VECTOR, MultiDiscrete([2, 3, 4])),
    Combination("PPO", VECTOR, HALF_BOUNDED, module_to_env=lambda: [FitActions()], environment=UNSCALED),
    Combination(
        "PPO",
        SHIFTED,
        GEARED_PUSH,
        env_to_module=lambda: [CountFromZero(), FlattenObservations()],
        module_to_env=lambda: [FitActions()],
        environment=UNSCALED,
    ),
    Combination("PPO", NESTED, NESTED_ACTION, env_to_module=lambda: [FlattenObservations(), MeanStdFilter()]),
    Combination("PPO", Discrete(5), CHOICE, env_to_module=lambda: [FlattenObservations()]),
    Combination("PPO", MASKED, CHOICE, module_class=ActionMaskingTorchRLModule),
    Combination("PPO", IMAGE, CHOICE, env_to_module=lambda: [ScaleImages()]),
    Combination(
        "PPO",
        IMAGE,
        CHOICE,
        env_to_module=lambda: [ScaleImages(), FrameStackingEnvToModule(num_frames=3)],
        training={"learner_connector": lambda *_: [FrameStackingLearner(num_frames=3)]},
        is_rare=True,
    ),
    Combination("PPO", VECTOR, CHOICE, LSTM, env_to_module=lambda: [MeanStdFilter()]),
    Combination("PPO", VECTOR, FORCES, {**LSTM, "vf_share_layers": True}, is_rare=True),
    Combination(
        "PPO",
        VECTOR,
        CHOICE,
        env_to_module=lambda: [PrevActionsPrevRewards(n_prev_actions=2, n_prev_rewards=2), FlattenObservations()],
    ),
    Combination("APPO", VECTOR, CHOICE),
    Combination("APPO", VECTOR, CHOICE, LSTM, is_rare=True),
    Combination("IMPALA", VECTOR, FORCES),
    Combination("DQN", VECTOR, CHOICE, env_to_module=lambda: [MeanStdFilter()]),
    Combination("DQN", VECTOR, CHOICE, training={"num_atoms": 11, "v_min": -5.0, "v_max": 5.0, "dueling": False}),
    Combination("SAC", VECTOR, FORCES, env_to_module=lambda: [MeanStdFilter()], is_rare=True),
    Combination("SAC", VECTOR, CHOICE),
    Combination("TQC", VECTOR, FORCES, is_rare=True),
    Combination("BC", VECTOR, CHOICE),
    Combination("BC", VECTOR, FORCES, LSTM),
    Combination("MARWIL", VECTOR, FORCES),
    Combination("CQL", VECTOR, FORCES),
    Combination("IQL", VECTOR, FORCES),
)


def config_of(algorithm: str) -> Any:  # noqa: ANN401 - RLlib has no types
    """Makes RLlib's config for an algorithm by its name."""
    module = importlib.import_module(f"ray.rllib.algorithms.{algorithm.lower()}")
    return getattr(module, f"{algorithm}Config")()
