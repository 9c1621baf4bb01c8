"""Runs a bundle's model with onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnxruntime

from services.common.bundle import NEXT_STATE_PREFIX, Bundle
from services.policy.distributions import ACTION_DISTRIBUTION_INPUTS, ActionDistributions
from services.policy.randomness import Draw
from steersman import tensors
from steersman.errors import InvalidArgumentError
from steersman.v1 import common_pb2

Tensors = dict[str, npt.NDArray[np.generic]]
"""Arrays by wire name, each with a leading batch axis."""

_WARM_UP_BATCH_SIZES = (1, 2, 32)

PREVIOUS_ACTIONS = "state/previous_actions"
"""The state that holds the last draws of a categorical policy plus one; see `PolicySpec.state_tensors`."""

LOG_PROBABILITY = "log_probability"
VALUE = "value"


@dataclass(frozen=True)
class Choice:
    """How actions are chosen, and what is wanted besides them.

    Attributes:
        draws: When sampling, whose observations are drawn with which seed, in order; None for greedy actions.
        extras: Names of what is wanted besides the action and the next state.
    """

    draws: Sequence[Draw] | None = None
    extras: Sequence[str] = ()


GREEDY = Choice()


class PolicyRuntime:
    """One version of a policy, loaded and warm.

    Args:
        bundle: The version on disk.

    Attributes:
        spec: What it takes and gives.

    Raises:
        InvalidArgumentError: If onnxruntime cannot load the model, or it does not do what the manifest says.
    """

    def __init__(self, bundle: Bundle) -> None:
        options = onnxruntime.SessionOptions()
        # One thread a replica: Ray places more replicas where more is needed, and threads of small models only wait.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(bundle.model_path, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise InvalidArgumentError(f"cannot load {bundle.model_path}: {error}") from error
        self._distributions = ActionDistributions(bundle.spec)
        self.spec = self._complete_spec(bundle.spec)
        self._actions = [spec.name for spec in self.spec.action_tensors]
        self._states = [spec.name for spec in self.spec.state_tensors]
        self._greedy_outputs = self._actions + [NEXT_STATE_PREFIX + name for name in self._states]
        self._check_names(bundle)
        self._warm_up(bundle)

    def compute(self, inputs: Tensors, choice: Choice = GREEDY) -> Tensors:
        """Computes the actions for a batch of observations.

        Args:
            inputs: The observation and state tensors that the spec lists, in its dtypes.
            choice: How actions are chosen and what is wanted besides them.

        Returns:
            The action tensors, the next states under the names of the states, and the extras.
        """
        if choice is GREEDY:
            # The path of nearly every request: nothing but the model.
            return dict(zip(self._actions + self._states, self._session.run(self._greedy_outputs, inputs), strict=True))
        names = list(self._greedy_outputs)
        if self._distributions:
            names.append(ACTION_DISTRIBUTION_INPUTS)
        if VALUE in choice.extras:
            names.append(VALUE)
        computed = dict(zip(names, self._session.run(names, inputs), strict=True))
        outputs = {name: computed[name] for name in self._actions}
        outputs |= {name: computed[NEXT_STATE_PREFIX + name] for name in self._states}
        if self._distributions:
            parameters = computed[ACTION_DISTRIBUTION_INPUTS]
            if choice.draws is None:
                drawn = self._distributions.mode(parameters)
            else:
                drawn = self._distributions.sample(parameters, choice.draws)
                outputs |= self._distributions.actions(drawn)
                if PREVIOUS_ACTIONS in outputs:
                    # The model remembers its greedy action; what was taken is the draw.
                    outputs[PREVIOUS_ACTIONS][:, -1] = drawn[0] + 1
            if LOG_PROBABILITY in choice.extras:
                computed[LOG_PROBABILITY] = self._distributions.log_probability(parameters, drawn)
        return outputs | {name: computed[name] for name in choice.extras}

    def _complete_spec(self, spec: common_pb2.PolicySpec) -> common_pb2.PolicySpec:
        """Lists the extras that the model and its distribution can give."""
        complete = common_pb2.PolicySpec()
        complete.CopyFrom(spec)
        del complete.extra_tensors[:]
        outputs = {entry.name: entry for entry in self._session.get_outputs()}
        if self._distributions:
            complete.extra_tensors.add(
                name=ACTION_DISTRIBUTION_INPUTS,
                dtype=common_pb2.DATA_TYPE_FLOAT32,
                shape=[self._distributions.parameters],
            )
            complete.extra_tensors.add(name=LOG_PROBABILITY, dtype=common_pb2.DATA_TYPE_FLOAT32)
        if VALUE in outputs:
            complete.extra_tensors.add(name=VALUE, dtype=common_pb2.DATA_TYPE_FLOAT32)
        return complete

    def _check_names(self, bundle: Bundle) -> None:
        inputs = {entry.name for entry in self._session.get_inputs()}
        outputs = {entry.name for entry in self._session.get_outputs()}
        expected = {spec.name for spec in (*self.spec.observation_tensors, *self.spec.state_tensors)}
        wanted = self._greedy_outputs + ([ACTION_DISTRIBUTION_INPUTS] if self._distributions else [])
        if inputs != expected or not set(wanted) <= outputs:
            raise InvalidArgumentError(
                f"expected {bundle.model_path} to take {sorted(expected)} and give {wanted}, "
                f"got {sorted(inputs)} and {sorted(outputs)}"
            )

    def _warm_up(self, bundle: Bundle) -> None:
        """Computes batches of zeros, so that the first request does not pay for onnxruntime's preparations."""
        specs = (*self.spec.observation_tensors, *self.spec.state_tensors)
        for size in _WARM_UP_BATCH_SIZES:
            zeros = {spec.name: np.zeros((size, *spec.shape), tensors.NUMPY_DTYPES[spec.dtype]) for spec in specs}
            try:
                self.compute(zeros)
            except Exception as error:
                raise InvalidArgumentError(f"{bundle.model_path} cannot compute a batch of {size}: {error}") from error
