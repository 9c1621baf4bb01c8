"""Action distributions: greedy actions, draws and log-probabilities, from the parameters that a model gives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from services.policy.randomness import Draw, uniforms
from steersman import tensors
from steersman.errors import InvalidArgumentError
from steersman.v1 import common_pb2

ACTION_DISTRIBUTION_INPUTS = "action_distribution_inputs"

Array = npt.NDArray[Any]

_TRANSFORMS = {"none", "clip", "unsquash"}


class Distribution(Protocol):
    """Draws are in the distribution's own space; `action` takes them to the environment's."""

    def mode(self, parameters: Array) -> Array:
        """Gives the most probable draw for each row of the parameters."""

    def sample(self, parameters: Array, draws: Sequence[Draw]) -> Array:
        """Gives a random draw for each row of the parameters."""

    def log_probability(self, parameters: Array, drawn: Array) -> Array:
        """Gives each draw's log-probability, or log-density. Shape [batch], float32."""

    def action(self, drawn: Array) -> Array:
        """Takes draws to the action space."""


class Categorical:
    """One of n actions. Parameters: logits, [batch, n].

    Args:
        space: The action space.
    """

    def __init__(self, space: common_pb2.DiscreteSpace) -> None:
        self._start = space.start
        self._dtype = tensors.NUMPY_DTYPES[space.dtype]

    def mode(self, parameters: Array) -> Array:
        """See `Distribution`."""
        drawn: Array = np.argmax(parameters, axis=1)
        return drawn

    def sample(self, parameters: Array, draws: Sequence[Draw]) -> Array:
        """See `Distribution`; the Gumbel-max trick (Gumbel, 1954): argmax of logits + Gumbel noise."""
        gumbel = -np.log(-np.log(uniforms(draws, parameters.shape[1])))
        drawn: Array = np.argmax(parameters + gumbel, axis=1)
        return drawn

    def log_probability(self, parameters: Array, drawn: Array) -> Array:
        """See `Distribution`; log-softmax, shifted by the largest logit so that nothing overflows."""
        logits = parameters.astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        chosen = np.take_along_axis(logits, drawn[:, np.newaxis], axis=1)[:, 0]
        result: Array = (chosen - np.log(np.exp(logits).sum(axis=1))).astype(np.float32)
        return result

    def action(self, drawn: Array) -> Array:
        """See `Distribution`."""
        return (drawn + self._start).astype(self._dtype)


class DiagonalGaussian:
    """Independent normals. Parameters: means and logarithms of standard deviations, [batch, 2 * size].

    Args:
        space: The action space.
        transform: How a draw becomes an action; see `ActionDistribution.transform`.
    """

    def __init__(self, space: common_pb2.BoxSpace, transform: str) -> None:
        self._transform = transform
        self._shape = tuple(space.shape)
        self._dtype = tensors.NUMPY_DTYPES[space.dtype]
        self._low = np.broadcast_to(np.array(space.low), (math.prod(self._shape),))
        self._high = np.broadcast_to(np.array(space.high), (math.prod(self._shape),))

    def mode(self, parameters: Array) -> Array:
        """See `Distribution`."""
        means, _ = np.split(parameters.astype(np.float64), 2, axis=1)
        return np.asarray(means)

    def sample(self, parameters: Array, draws: Sequence[Draw]) -> Array:
        """See `Distribution`; normals by the Box-Muller transform (Box and Muller, 1958)."""
        means, log_deviations = np.split(parameters.astype(np.float64), 2, axis=1)
        radius, angle = np.split(uniforms(draws, parameters.shape[1]), 2, axis=1)
        normals = np.sqrt(-2.0 * np.log(radius)) * np.cos(2.0 * math.pi * angle)
        drawn: Array = means + np.exp(log_deviations) * normals
        return drawn

    def log_probability(self, parameters: Array, drawn: Array) -> Array:
        """See `Distribution`; the density is that of the draw, before it is taken to the action space."""
        means, log_deviations = np.split(parameters.astype(np.float64), 2, axis=1)
        standardised = (drawn - means) / np.exp(log_deviations)
        terms = -0.5 * standardised**2 - log_deviations - 0.5 * math.log(2.0 * math.pi)
        result: Array = terms.sum(axis=1).astype(np.float32)
        return result

    def action(self, drawn: Array) -> Array:
        """See `Distribution`; what RLlib's NormalizeAndClipActions does."""
        if self._transform == "unsquash":
            drawn = self._low + (drawn + 1.0) * (self._high - self._low) / 2.0
        if self._transform != "none":
            drawn = np.clip(drawn, self._low, self._high)
        return drawn.reshape(-1, *self._shape).astype(self._dtype)


def distribution(spec: common_pb2.PolicySpec) -> Distribution | None:
    """Makes a policy's distribution.

    Args:
        spec: What the policy takes and gives.

    Returns:
        The distribution; None for a policy that has none, whose every action is its greedy one.

    Raises:
        InvalidArgumentError: If it is unknown, or does not go with the action space.
    """
    kind = spec.action_space.WhichOneof("kind")
    if len(spec.action_distributions) != 1:
        raise InvalidArgumentError(f"expected one action distribution, got {len(spec.action_distributions)}")
    (wanted,) = spec.action_distributions
    if wanted.kind == "deterministic":
        return None
    if wanted.kind == "categorical" and kind == "discrete":
        return Categorical(spec.action_space.discrete)
    if wanted.kind == "diagonal_gaussian" and kind == "box" and wanted.transform in _TRANSFORMS:
        return DiagonalGaussian(spec.action_space.box, wanted.transform)
    raise InvalidArgumentError(
        f"expected an action distribution that is known for a {kind} space, got {wanted.kind!r} with transform "
        f"{wanted.transform!r}"
    )
