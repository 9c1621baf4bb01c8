"""From an RLlib checkpoint to a bundle: connectors, module and greedy action in one ONNX graph.

What cannot be exported exactly is refused, never approximated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import onnx
import torch
from ray.rllib.connectors.env_to_module import EnvToModulePipeline
from ray.rllib.connectors.module_to_env import ModuleToEnvPipeline
from ray.rllib.core.columns import Columns
from ray.rllib.core.distribution.torch import torch_distribution
from ray.rllib.core.rl_module.rl_module import RLModule

from services.common.bundle import Bundle, write_bundle
from services.trainer.action_start import needs_action_start
from services.trainer.connectors import Step, action_steps, action_transform, observation_steps
from services.trainer.exportable import check_spaces
from steersman import spaces
from steersman.errors import FailedPreconditionError
from steersman.v1 import common_pb2

ACTION_DISTRIBUTION_INPUTS = "action_distribution_inputs"
"""Name of the output that holds the parameters of the action distribution: float32, one row per observation."""


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


@dataclass(frozen=True)
class _Distribution:
    """An action distribution that can be exported.

    Attributes:
        name: As in `ActionDistribution.kind`.
        mode: Its greedy action, from its parameters.
    """

    name: str
    mode: Step


_DISTRIBUTIONS = {
    torch_distribution.TorchCategorical: _Distribution("categorical", lambda logits: logits.argmax(dim=-1)),
    torch_distribution.TorchDiagGaussian: _Distribution("diagonal_gaussian", lambda inputs: inputs.chunk(2, dim=-1)[0]),
    torch_distribution.TorchDeterministic: _Distribution("deterministic", lambda inputs: inputs),
}


def load_checkpoint(folder: Path) -> TrainedPolicy:
    """Loads the policy of an RLlib checkpoint.

    A checkpoint holds pickles, so loading one runs code: load only what this installation's own trainer wrote.

    Args:
        folder: The algorithm's checkpoint.
    """
    # RLlib refuses relative paths.
    root = folder.absolute()
    return TrainedPolicy(
        RLModule.from_checkpoint(str(root / "learner_group" / "learner" / "rl_module" / "default_policy")),
        EnvToModulePipeline.from_checkpoint(str(root / "env_runner" / "env_to_module_connector")),
        ModuleToEnvPipeline.from_checkpoint(str(root / "env_runner" / "module_to_env_connector")),
    )


def export_bundle(
    policy: TrainedPolicy, folder: Path, *, environment_id: str, algorithm: str, provenance: dict[str, Any]
) -> Bundle:
    """Writes a policy as a bundle.

    Args:
        policy: What to export.
        folder: Where to; made if it does not exist.
        environment_id: Gymnasium id of the environment that it was trained in.
        algorithm: RLlib algorithm that trained it.
        provenance: See `Bundle.provenance`.

    Raises:
        InvalidArgumentError: If its spaces cannot be exported.
        FailedPreconditionError: If its module, its distribution or a connector piece cannot be exported.
    """
    observation_space = spaces.from_gymnasium(policy.observation_space)
    action_space = spaces.from_gymnasium(policy.action_space)
    spec = common_pb2.PolicySpec(
        observation_space=observation_space,
        action_space=action_space,
        observation_tensors=spaces.tensor_specs(observation_space, spaces.OBSERVATION),
        action_tensors=spaces.tensor_specs(action_space, spaces.ACTION),
        environment_id=environment_id,
        algorithm=algorithm,
        action_distributions=[
            common_pb2.ActionDistribution(
                kind=_distribution(policy).name,
                parameters=_parameters(policy),
                transform=action_transform(policy.module_to_env),
            )
        ],
    )
    return write_bundle(folder, to_onnx(policy), spec, provenance)


def to_onnx(policy: TrainedPolicy) -> bytes:
    """Makes the ONNX model of a policy.

    Its input `observation` has the observation space's shape and dtype, its output `action` those of the action space,
    its output `action_distribution_inputs` is float32; each with a dynamic batch axis in front.

    Raises:
        InvalidArgumentError: If the spaces cannot be exported.
        FailedPreconditionError: If the module, its distribution or a connector piece cannot be exported.
    """
    check_spaces(policy.observation_space, policy.action_space)
    graph = _Graph(
        policy.module,
        observation_steps(policy.env_to_module),
        _distribution(policy).mode,
        _checked_action_steps(policy),
        torch.as_tensor(np.zeros(0, policy.action_space.dtype)).dtype,
    )
    # Two rows: torch takes a batch axis of length 1 for a constant.
    example = torch.as_tensor(np.zeros((2, *(policy.observation_space.shape or ())), policy.observation_space.dtype))
    shapes = {spaces.OBSERVATION: {0: torch.export.Dim("batch")}}
    # Exported here rather than by torch.onnx.export, which falls back to ways that fix the batch axis silently; strict,
    # because RLlib's module for a free deviation takes len() of a batch, which only a strict export follows.
    exported = torch.export.export(graph.eval(), (example,), dynamic_shapes=shapes, strict=True)
    program = torch.onnx.export(
        exported,
        dynamo=True,
        optimize=True,
        external_data=False,
        verbose=False,
        input_names=[spaces.OBSERVATION],
        output_names=[spaces.ACTION, ACTION_DISTRIBUTION_INPUTS],
        dynamic_shapes=shapes,
    )
    model = program.model_proto
    _strip_traces(model)
    onnx.checker.check_model(model, full_check=True)
    serialised: bytes = model.SerializeToString()
    return serialised


class _Graph(torch.nn.Module):  # type: ignore[misc] # torch is not type-checked
    """What is exported: everything between the environment's observation and the environment's action."""

    def __init__(
        self,
        module: Any,  # noqa: ANN401 - RLlib has no types
        before: Sequence[Step],
        mode: Step,
        after: Sequence[Step],
        action_dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.module = module
        self._before, self._mode, self._after = before, mode, after
        self._action_dtype = action_dtype

    def forward(self, observation: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        for step in self._before:
            observation = step(observation)
        # forward_inference() would switch the module between training and evaluation on every call.
        outputs = self.module._forward_inference({Columns.OBS: observation.to(torch.float32)})  # noqa: SLF001
        inputs = outputs[Columns.ACTION_DIST_INPUTS]
        action = self._mode(inputs)
        for step in self._after:
            action = step(action)
        return action.to(self._action_dtype), inputs


def _distribution(policy: TrainedPolicy) -> _Distribution:
    if policy.module.is_stateful():
        raise FailedPreconditionError(
            f"cannot export {type(policy.module).__name__}: expected a module without recurrent state; train without "
            "use_lstm"
        )
    kind = policy.module.get_inference_action_dist_cls()
    if kind not in _DISTRIBUTIONS:
        expected = ", ".join(known.__name__ for known in _DISTRIBUTIONS)
        raise FailedPreconditionError(
            f"cannot export the action distribution {getattr(kind, '__name__', kind)}: expected one of {expected}"
        )
    return _DISTRIBUTIONS[kind]


def _parameters(policy: TrainedPolicy) -> int:
    """Counts the parameters of the action distribution."""
    kind = policy.module.get_inference_action_dist_cls()
    return int(kind.required_input_dim(space=policy.action_space))


def _checked_action_steps(policy: TrainedPolicy) -> list[Step]:
    steps = action_steps(policy.module_to_env)
    if needs_action_start(policy.action_space) and not steps:
        raise FailedPreconditionError(
            f"cannot export actions of {policy.action_space}: RLlib numbers them from 0, so expected the connector "
            "piece AddActionStart in the module-to-env pipeline"
        )
    return steps


def _strip_traces(model: onnx.ModelProto) -> None:
    """Removes what the exporter notes about Python code: it is most of a small model, and names local files."""
    del model.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]
