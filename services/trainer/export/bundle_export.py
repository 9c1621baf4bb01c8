"""From an RLlib checkpoint to a bundle: connectors, module and greedy action in one ONNX graph.

What cannot be exported exactly is refused, never approximated.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
from ray.rllib.connectors.env_to_module import EnvToModulePipeline
from ray.rllib.connectors.module_to_env import ModuleToEnvPipeline
from ray.rllib.core.rl_module.rl_module import RLModule

from services.common.bundle import Bundle, write_bundle
from services.trainer.export.action_connectors import action_steps, action_transform
from services.trainer.export.exportable import check_spaces
from services.trainer.export.graph import Names, PolicyGraph, to_onnx
from services.trainer.export.memory import PREVIOUS_REWARD
from services.trainer.export.nesting import leaves
from services.trainer.export.observation_connectors import observation_steps
from steersman import spaces, tensors
from steersman.errors import FailedPreconditionError
from steersman.v1 import common_pb2


@dataclass(frozen=True)
class TrainedPolicy:
    """What a checkpoint holds of a policy.

    Attributes:
        module: RLlib's `RLModule`.
        env_to_module: The connector pipeline in front of it.
        module_to_env: The connector pipeline behind it.
    """

    module: Any
    env_to_module: Any
    module_to_env: Any

    @property
    def observation_space(self) -> gymnasium.Space[Any]:
        """Space of the raw observations, as the environment emits them."""
        space: gymnasium.Space[Any] = self.env_to_module.input_observation_space
        return space

    @property
    def action_space(self) -> gymnasium.Space[Any]:
        """Space of the actions, as the environment takes them."""
        space: gymnasium.Space[Any] = self.env_to_module.input_action_space
        return space


def load_checkpoint(folder: Path) -> TrainedPolicy:
    """Loads the policy of an RLlib checkpoint.

    A checkpoint holds pickles, so loading one runs code: load only what this installation's own trainer wrote.

    Args:
        folder: The algorithm's checkpoint.

    Raises:
        FailedPreconditionError: If it has no connectors.
    """
    # RLlib refuses relative paths.
    root = folder.absolute()
    # An algorithm that learns from recordings has only the runners that evaluate it.
    runners = [root / name for name in ("env_runner", "eval_env_runner") if (root / name).exists()]
    if not runners:
        raise FailedPreconditionError(
            f"expected the connectors of an env runner in the checkpoint {folder}, got none; an algorithm that learns "
            "from recordings saves them if it has an evaluation_interval"
        )
    return TrainedPolicy(
        RLModule.from_checkpoint(str(root / "learner_group" / "learner" / "rl_module" / "default_policy")),
        EnvToModulePipeline.from_checkpoint(str(runners[0] / "env_to_module_connector")),
        ModuleToEnvPipeline.from_checkpoint(str(runners[0] / "module_to_env_connector")),
    )


def export_bundle(
    policy: TrainedPolicy,
    folder: Path,
    *,
    environment: common_pb2.TrainedEnvironment,
    algorithm: str,
    provenance: dict[str, Any],
) -> Bundle:
    """Writes a policy as a bundle.

    Args:
        policy: What to export.
        folder: Where to; made if it does not exist.
        environment: The environment that it was trained in.
        algorithm: RLlib algorithm that trained it.
        provenance: See `Bundle.provenance`.

    Raises:
        InvalidArgumentError: If its spaces cannot be exported.
        FailedPreconditionError: If its module, its distribution or a connector piece cannot be exported.
    """
    check_spaces(policy.observation_space, policy.action_space)
    observation_space = spaces.from_gymnasium(policy.observation_space)
    action_space = spaces.from_gymnasium(policy.action_space)
    spec = common_pb2.PolicySpec(
        observation_space=observation_space,
        action_space=action_space,
        observation_tensors=spaces.tensor_specs(observation_space, spaces.OBSERVATION),
        action_tensors=spaces.tensor_specs(action_space, spaces.ACTION),
        environment_id=environment.id,
        environment=environment if environment.id else None,
        algorithm=algorithm,
    )
    graph = policy_graph(policy, spec)
    if graph.takes_reward:
        spec.observation_tensors.add(name=PREVIOUS_REWARD, dtype=common_pb2.DATA_TYPE_FLOAT32)
    for state in graph.states:
        spec.state_tensors.add(name=state.name, dtype=tensors.wire_dtype(state.dtype), shape=state.shape)
    for leaf, (_, space) in zip(graph.distributions, leaves(policy.action_space), strict=True):
        spec.action_distributions.add(
            kind=leaf.kind, parameters=leaf.parameters, transform=action_transform(policy.module_to_env, space)
        )
    return write_bundle(folder, to_onnx(graph), spec, provenance)


def policy_graph(policy: TrainedPolicy, spec: common_pb2.PolicySpec) -> PolicyGraph:
    """Puts a policy's connectors and module together.

    Args:
        policy: The policy.
        spec: Names the parts of its observation and action.

    Raises:
        FailedPreconditionError: If its module, its distribution or a connector piece cannot be exported.
    """
    return PolicyGraph(
        policy.module,
        policy.observation_space,
        policy.action_space,
        observation_steps(policy.env_to_module),
        action_steps(policy.module_to_env),
        Names([tensor.name for tensor in spec.observation_tensors], [tensor.name for tensor in spec.action_tensors]),
    )
