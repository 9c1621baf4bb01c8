"""Runs a bundle's model with onnxruntime."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.common.bundle import NEXT_STATE_PREFIX, Bundle
from services.policy.distributions import ActionDistributions
from services.policy.model import check_model, load_model
from services.policy.onnx_outline import check_self_contained, describe_model, without_output
from services.policy.randomness import Draw
from steersman import tensors
from steersman.errors import InvalidArgumentError
from steersman.extras import ACTION_DISTRIBUTION_INPUTS, LOG_PROBABILITY, VALUE
from steersman.v1 import common_pb2

Tensors = dict[str, npt.NDArray[np.generic]]
"""Arrays by wire name, each with a leading batch axis."""

_WARM_UP_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
_WARM_UP_SECONDS = 0.5

PREVIOUS_ACTIONS = "state/previous_actions"
"""The state that holds the last draws of a categorical policy plus one; see `PolicySpec.state_tensors`."""


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
        model: What its model is made of.
        provenance: See `Bundle.provenance`.
        warm_up_observations: Observations in the largest batch that it was warmed with.
        warm_up_seconds: What that batch took.

    Raises:
        InvalidArgumentError: If onnxruntime cannot load the model, or it does not do what the manifest says.
    """

    def __init__(self, bundle: Bundle) -> None:
        model = bundle.read_model()
        check_self_contained(model, bundle.model_path)
        self._session = load_model(model, bundle.model_path)
        self.model = describe_model(model)
        self.provenance = bundle.provenance
        self._distributions = ActionDistributions(bundle.spec)
        self.spec = self._complete_spec(bundle.spec)
        self._actions = [spec.name for spec in self.spec.action_tensors]
        self._states = [spec.name for spec in self.spec.state_tensors]
        self._outputs = self._actions + [NEXT_STATE_PREFIX + name for name in self._states]
        inputs = [*self.spec.observation_tensors, *self.spec.state_tensors]
        check_model(self._session, inputs, self._model_outputs(), bundle.model_path)
        self._with_value = self._session
        if self._gives_value:
            # Values are wanted rarely and cost as much as actions, so there is a model without them for all else.
            self._session = load_model(without_output(model, VALUE), bundle.model_path)
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
            return dict(zip(self._actions + self._states, self._session.run(self._outputs, inputs), strict=True))
        names = list(self._outputs)
        if self._distributions:
            names.append(ACTION_DISTRIBUTION_INPUTS)
        session = self._session
        if VALUE in choice.extras:
            names.append(VALUE)
            session = self._with_value
        computed = dict(zip(names, session.run(names, inputs), strict=True))
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

    @property
    def _gives_value(self) -> bool:
        return any(entry.name == VALUE for entry in self.spec.extra_tensors)

    def _complete_spec(self, spec: common_pb2.PolicySpec) -> common_pb2.PolicySpec:
        """Lists the extras that the model and its distributions can give."""
        complete = common_pb2.PolicySpec()
        complete.CopyFrom(spec)
        del complete.extra_tensors[:]
        if self._distributions:
            complete.extra_tensors.add(
                name=ACTION_DISTRIBUTION_INPUTS,
                dtype=common_pb2.DATA_TYPE_FLOAT32,
                shape=[self._distributions.parameters],
            )
            complete.extra_tensors.add(name=LOG_PROBABILITY, dtype=common_pb2.DATA_TYPE_FLOAT32)
        if any(entry.name == VALUE for entry in self._session.get_outputs()):
            complete.extra_tensors.add(name=VALUE, dtype=common_pb2.DATA_TYPE_FLOAT32)
        return complete

    def _model_outputs(self) -> list[common_pb2.TensorSpec]:
        """Lists what the model itself has to give."""
        states = [
            common_pb2.TensorSpec(name=NEXT_STATE_PREFIX + spec.name, dtype=spec.dtype, shape=spec.shape)
            for spec in self.spec.state_tensors
        ]
        extras = [spec for spec in self.spec.extra_tensors if spec.name != LOG_PROBABILITY]
        return [*self.spec.action_tensors, *states, *extras]

    def _warm_up(self, bundle: Bundle) -> None:
        """Computes batches of zeros, so that no first request pays for onnxruntime's preparations."""
        specs = (*self.spec.observation_tensors, *self.spec.state_tensors)
        everything = [spec.name for spec in self.spec.extra_tensors]
        began = time.monotonic()
        for size in _WARM_UP_BATCH_SIZES:
            zeros = {spec.name: np.zeros((size, *spec.shape), tensors.NUMPY_DTYPES[spec.dtype]) for spec in specs}
            try:
                self.compute(zeros)
                prepared = time.monotonic()
                self.compute(zeros, Choice([Draw(size, 0, 0)], everything))
                self.warm_up_observations, self.warm_up_seconds = size, time.monotonic() - prepared
            except Exception as error:
                raise InvalidArgumentError(f"{bundle.model_path} cannot compute a batch of {size}: {error}") from error
            if time.monotonic() - began > _WARM_UP_SECONDS:
                # A large model, for which preparations are the least of its costs.
                return
