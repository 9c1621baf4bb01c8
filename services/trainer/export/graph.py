"""Everything between the environment's observation and the environment's action, as one torch module and in ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import onnx
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis import ValueFunctionAPI

from services.common.bundle import NEXT_STATE_PREFIX
from services.trainer.export.action_connectors import ActionStep
from services.trainer.export.action_distributions import LeafDistribution, describe
from services.trainer.export.memory import PREVIOUS_ACTIONS, PREVIOUS_REWARD, Memory, StateTensor
from services.trainer.export.nesting import Nested, in_rllib_order, leaves, nest
from services.trainer.export.observation_connectors import ObservationStep
from services.trainer.export.recurrence import module_states, read_state, write_state
from steersman.errors import FailedPreconditionError
from steersman.extras import ACTION_DISTRIBUTION_INPUTS, VALUE


@dataclass(frozen=True)
class Names:
    """Wire names of the graph's tensors, each kind in the order of its space.

    Attributes:
        observation: The parts of the observation.
        action: The parts of the action.
    """

    observation: Sequence[str]
    action: Sequence[str]


class PolicyGraph(torch.nn.Module):  # type: ignore[misc] # torch is not type-checked
    """What is exported.

    Its inputs are the parts of the observation, the previous reward if a connector takes it, and the state tensors; its
    outputs the parts of the action, the parameters of their distributions and the value where there are any, and the
    next state tensors. Each has a batch axis in front.

    Args:
        module: RLlib's `RLModule`.
        observation_space: Space of the raw observations.
        action_space: Space of the environment's actions.
        before: What happens to observations.
        after: What happens to each part of the action, in the order of its space.
        names: Names of the parts.

    Attributes:
        states: What it remembers.
        distributions: How each part of the action is chosen, in the order of the action's space.
        takes_reward: Whether it takes the reward of the step before.
    """

    def __init__(
        self,
        module: Any,  # noqa: ANN401 - RLlib has no types
        observation_space: gymnasium.Space[Any],
        action_space: gymnasium.Space[Any],
        before: Sequence[ObservationStep],
        after: Sequence[Sequence[ActionStep]],
        names: Names,
    ) -> None:
        super().__init__()
        self.module = module
        self._observation_space = observation_space
        self._before, self._after, self._names = before, after, names
        self._gives_value = isinstance(module, ValueFunctionAPI)
        self.takes_reward = any(step.takes_reward for step in before)
        self.states: list[StateTensor] = [state for step in before for state in step.states] + module_states(module)
        self._dtypes = [torch.as_tensor(np.zeros(0, space.dtype)).dtype for _, space in leaves(action_space)]
        # RLlib's order of the action's parts, as places in ours.
        self._order = in_rllib_order(action_space)
        self.eval()
        self._rllib_distributions = self._describe_distributions()
        ordered = dict(zip(self._order, self._rllib_distributions, strict=True))
        self.distributions: list[LeafDistribution] = [ordered[place] for place in sorted(ordered)]

    @property
    def input_names(self) -> list[str]:
        """Wire names of the inputs, in order."""
        reward = [PREVIOUS_REWARD] if self.takes_reward else []
        return [*self._names.observation, *reward, *(state.name for state in self.states)]

    @property
    def output_names(self) -> list[str]:
        """Wire names of the outputs, in order."""
        inputs = [ACTION_DISTRIBUTION_INPUTS] if self._draws else []
        value = [VALUE] if self._gives_value else []
        return [*self._names.action, *inputs, *value, *(NEXT_STATE_PREFIX + state.name for state in self.states)]

    def example(self, batch_size: int) -> tuple[torch.Tensor, ...]:
        """Gives inputs of zeros."""
        observation = [
            torch.as_tensor(np.zeros((batch_size, *(space.shape or ())), space.dtype))
            for _, space in leaves(self._observation_space)
        ]
        reward = [torch.zeros(batch_size)] if self.takes_reward else []
        return (*observation, *reward, *(state.zeros(batch_size) for state in self.states))

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Computes actions; see the class."""
        observation, memory = self._read(inputs)
        outputs = self._run_module(self._batch(observation, memory), memory)
        actions, parameters = self._choose(outputs)
        if PREVIOUS_ACTIONS in memory.before:
            # Before anything is done to the action: what the module chose, plus one, since 0 means "none".
            latest = actions[0].unsqueeze(-1) + 1
            memory.after[PREVIOUS_ACTIONS] = torch.cat([memory.before[PREVIOUS_ACTIONS][:, 1:], latest], dim=-1)
        results = []
        for action, steps, dtype in zip(actions, self._after, self._dtypes, strict=True):
            for step in steps:
                action = step(action)
            results.append(action.to(dtype))
        if self._draws:
            results.append(parameters)
        if self._gives_value:
            values = self.module.compute_values(self._batch(observation, memory))
            results.append(values.reshape(values.shape[0]).to(torch.float32))
        return (*results, *(memory.after[state.name] for state in self.states))

    @property
    def _draws(self) -> bool:
        """Whether there is anything to draw from."""
        return any(leaf.kind != "deterministic" for leaf in self._rllib_distributions)

    def _read(self, inputs: Sequence[torch.Tensor]) -> tuple[Nested, Memory]:
        remaining = iter(inputs)
        observation = nest(self._observation_space, remaining)
        reward = next(remaining) if self.takes_reward else None
        memory = Memory({state.name: tensor for state, tensor in zip(self.states, remaining, strict=True)}, reward)
        for step in self._before:
            observation = step.apply(observation, memory)
        return observation, memory

    def _batch(self, observation: Nested, memory: Memory) -> dict[str, Any]:
        """Makes what the module takes: each time anew, since some modules take it apart in place."""
        batch: dict[str, Any] = {Columns.OBS: _map(_as_rllib_does, observation)}
        if self.module.is_stateful():
            batch[Columns.OBS] = _map(lambda tensor: tensor.unsqueeze(1), batch[Columns.OBS])
            batch[Columns.STATE_IN] = read_state(self.module, memory)
        return batch

    def _run_module(self, batch: dict[str, Any], memory: Memory) -> dict[str, Any]:
        """Gives what the module gives, which for a recurrent one has no axis of time any more."""
        # forward_inference() would switch the module between training and evaluation on every call.
        outputs: dict[str, Any] = self.module._forward_inference(batch)  # noqa: SLF001
        if self.module.is_stateful():
            write_state(outputs[Columns.STATE_OUT], memory)
            for column in (Columns.ACTION_DIST_INPUTS, Columns.ACTIONS):
                if column in outputs:
                    outputs[column] = outputs[column].squeeze(1)
        return outputs

    def _choose(self, outputs: dict[str, Any]) -> tuple[list[torch.Tensor], torch.Tensor | None]:
        """Gives the greedy action and the parameters of its distribution, in our order of the action's parts."""
        if Columns.ACTIONS in outputs:
            return [outputs[Columns.ACTIONS]], None
        parts = outputs[Columns.ACTION_DIST_INPUTS].split([leaf.width for leaf in self._rllib_distributions], dim=-1)
        of_place = dict(zip(self._order, zip(self._rllib_distributions, parts, strict=True), strict=True))
        ordered = [of_place[place] for place in sorted(of_place)]
        actions = [leaf.mode(part) for leaf, part in ordered]
        drawn_from = [part for leaf, part in ordered if leaf.kind != "deterministic"]
        return actions, torch.cat(drawn_from, dim=-1) if drawn_from else None

    def _describe_distributions(self) -> list[LeafDistribution]:
        """Runs the module once, since some of RLlib's distributions know their parts only from an example."""
        with torch.no_grad():
            observation, memory = self._read(self.example(2))
            outputs = self._run_module(self._batch(observation, memory), memory)
        if Columns.ACTIONS in outputs:
            # The module decides by itself, as the one of DQN.
            return [LeafDistribution("deterministic", 0, lambda actions: actions)]
        return describe(self.module.get_inference_action_dist_cls(), outputs[Columns.ACTION_DIST_INPUTS])


def to_onnx(graph: PolicyGraph) -> bytes:
    """Makes the ONNX model of a policy, with a dynamic batch axis in front of every input and output.

    Raises:
        FailedPreconditionError: If torch cannot follow what the module does.
    """
    # Two rows: torch takes a batch axis of length 1 for a constant.
    example = graph.example(2)
    batch = torch.export.Dim("batch")
    shapes = {"inputs": tuple({0: batch} for _ in example)}
    program = torch.onnx.export(
        _trace(graph, example, shapes),
        dynamo=True,
        optimize=True,
        external_data=False,
        verbose=False,
        input_names=graph.input_names,
        output_names=graph.output_names,
        dynamic_shapes=shapes,
    )
    model = program.model_proto
    _strip_traces(model)
    onnx.checker.check_model(model, full_check=True)
    serialised: bytes = model.SerializeToString()
    return serialised


def _trace(graph: PolicyGraph, example: tuple[torch.Tensor, ...], shapes: dict[str, Any]) -> Any:  # noqa: ANN401
    """Makes torch's graph of a policy.

    Not left to torch.onnx.export, which falls back to ways that fix the batch axis silently. Each way of tracing
    follows modules that the other does not: recurrent ones only without bytecode analysis (strict), RLlib's free
    deviation, which takes len() of a batch, only with it.
    """
    reasons = []
    for strict in (False, True):
        try:
            return torch.export.export(graph, example, dynamic_shapes=shapes, strict=strict)
        except Exception as error:  # noqa: BLE001 - torch raises errors of many kinds for what it cannot follow
            reasons.append(str(error).splitlines()[0] if str(error) else type(error).__name__)
    raise FailedPreconditionError(
        f"cannot export {type(graph.module).__name__}: expected a module that torch.export can follow with a dynamic "
        f"batch axis, got: {'; '.join(reasons)}"
    )


def _as_rllib_does(tensor: torch.Tensor) -> torch.Tensor:
    """Converts as RLlib's NumpyToTensor does: floats to float32, integers as they are."""
    return tensor.to(torch.float32) if tensor.is_floating_point() else tensor


def _map(function: Any, nested: Nested) -> Nested:  # noqa: ANN401 - from tensor to tensor
    if isinstance(nested, dict):
        return {key: _map(function, part) for key, part in nested.items()}
    if isinstance(nested, tuple):
        return tuple(_map(function, part) for part in nested)
    return function(nested)


def _strip_traces(model: onnx.ModelProto) -> None:
    """Removes what the exporter notes about Python code: it is most of a small model, and names local files."""
    del model.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]
