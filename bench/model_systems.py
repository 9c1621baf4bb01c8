"""What section `model` compares: the same policy, computed in three ways."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.env import INPUT_ENV_SINGLE_SPACES, INPUT_ENV_SPACES
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from services.common.bundle import Bundle
from services.policy.runtime import PolicyRuntime
from services.trainer.export.bundle_export import TrainedPolicy, export_bundle
from steersman import spaces, tensors
from steersman.v1.common_pb2 import TrainedEnvironment

_VECTOR = gymnasium.spaces.Box(-5.0, 5.0, (4,), np.float32)
_IMAGE = gymnasium.spaces.Box(0.0, 1.0, (84, 84, 4), np.float32)
_ACTIONS: gymnasium.Space[Any] = gymnasium.spaces.Discrete(2)
_NETWORK = {"fcnet_hiddens": [64, 64], "fcnet_activation": "tanh"}
_SETTINGS: dict[str, tuple[gymnasium.Space[Any], dict[str, Any]]] = {
    "mlp": (_VECTOR, _NETWORK),
    "cnn": (_IMAGE, {}),
    "lstm": (_VECTOR, _NETWORK | {"use_lstm": True, "lstm_cell_size": 64, "max_seq_len": 20}),
}

Compute = Callable[[], object]
"""Computes the actions of one batch."""


@dataclass(frozen=True)
class Policy:
    """One policy with random weights, as RLlib has it and as a bundle.

    Attributes:
        trained: RLlib's module and connectors.
        bundle: The bundle.
    """

    trained: TrainedPolicy
    bundle: Bundle

    def observations(self, size: int) -> npt.NDArray[np.float32]:
        """Gives a batch of observations."""
        space = self.trained.observation_space
        space.seed(0)
        return np.stack([space.sample() for _ in range(size)])


def make_policy(kind: str, folder: Path) -> Policy:
    """Builds a policy without training it, and exports it.

    Args:
        kind: "mlp", "cnn" or "lstm".
        folder: Where the bundle goes.
    """
    observation_space, settings = _SETTINGS[kind]
    both = (observation_space, _ACTIONS)
    given = {INPUT_ENV_SPACES: both, INPUT_ENV_SINGLE_SPACES: both}
    config = (
        PPOConfig()
        .environment(observation_space=observation_space, action_space=_ACTIONS)
        .rl_module(model_config=DefaultModelConfig(**settings))
    )
    module = config.get_multi_rl_module_spec(spaces={DEFAULT_MODULE_ID: both}).build()[DEFAULT_MODULE_ID]
    trained = TrainedPolicy(
        module.eval(),
        config.build_env_to_module_connector(spaces=given),
        config.build_module_to_env_connector(spaces=given),
    )
    bundle = export_bundle(trained, folder, environment=TrainedEnvironment(), algorithm="PPO", provenance={})
    return Policy(trained, bundle)


def _bundle(policy: Policy, size: int) -> Compute:
    runtime = PolicyRuntime(policy.bundle)
    inputs: dict[str, npt.NDArray[Any]] = {spaces.OBSERVATION: policy.observations(size)}
    for state in runtime.spec.state_tensors:
        inputs[state.name] = np.zeros((size, *state.shape), tensors.NUMPY_DTYPES[state.dtype])
    return lambda: runtime.compute(inputs)


def _torch(policy: Policy, size: int) -> Compute:
    module = policy.trained.module
    observations = torch.from_numpy(policy.observations(size))
    batch: dict[str, Any] = {Columns.OBS: observations}
    if module.is_stateful():
        batch = {Columns.OBS: observations.unsqueeze(1), Columns.STATE_IN: _zeros(module.get_initial_state(), size)}

    def compute() -> torch.Tensor:
        with torch.inference_mode():
            return module._forward_inference(batch)[Columns.ACTION_DIST_INPUTS].argmax(dim=-1)  # noqa: SLF001 - as a careful user would, without switching to evaluation on each call

    return compute


def _connectors(policy: Policy, size: int) -> Compute:
    trained = policy.trained
    episodes = []
    for observation in policy.observations(size):
        episode = SingleAgentEpisode(observation_space=trained.observation_space, action_space=_ACTIONS)
        episode.add_env_reset(observation)
        episodes.append(episode)

    def compute() -> object:
        shared: dict[str, Any] = {}
        arguments = {"rl_module": trained.module, "episodes": episodes, "explore": False, "shared_data": shared}
        with torch.inference_mode():
            batch = trained.env_to_module(batch={}, **arguments)
            outputs = trained.module.forward_inference(batch)
            return trained.module_to_env(batch=outputs, **arguments)[Columns.ACTIONS]

    return compute


def _zeros(state: Any, size: int) -> Any:  # noqa: ANN401 - nested as the module's state is
    if isinstance(state, dict):
        return {key: _zeros(part, size) for key, part in state.items()}
    return torch.zeros(size, *state.shape)


SYSTEMS: dict[str, Callable[[Policy, int], Compute]] = {
    "bundle": _bundle,
    "rllib-torch": _torch,
    "rllib-connectors": _connectors,
}
"""Makes, for a policy and a batch size, what is measured."""
