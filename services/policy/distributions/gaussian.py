"""Distributions of numbers: independent normals, as they are or squashed."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from services.policy.distributions.part import Array
from steersman import tensors
from steersman.v1 import common_pb2

_SMALL = 1e-6
"""How near to its bounds a squashed number is looked at; RLlib's SMALL_NUMBER."""

_LOG_DEVIATIONS = (-5.0, 2.0)
"""Between these RLlib keeps the logarithms of the deviations of what is squashed."""


class DiagonalGaussian:
    """Independent normals. Parameters: means, then logarithms of standard deviations.

    Args:
        space: The action space.
        transform: How a draw becomes an action; see `ActionDistribution.transform`.
    """

    def __init__(self, space: common_pb2.BoxSpace, transform: str) -> None:
        self._transform = transform
        self._shape = tuple(space.shape)
        size = math.prod(self._shape)
        self.parameters = self.noise = 2 * size
        self._dtype = tensors.NUMPY_DTYPES[space.dtype]
        self._low = np.broadcast_to(np.array(space.low), (size,))
        self._high = np.broadcast_to(np.array(space.high), (size,))

    def mode(self, parameters: Array) -> Array:
        """See `PartDistribution`; the means."""
        means, _ = self._split(parameters)
        return means

    def sample(self, parameters: Array, uniforms: Array) -> Array:
        """See `PartDistribution`; normals by the Box-Muller transform (Box and Muller, 1958)."""
        means, log_deviations = self._split(parameters)
        radius, angle = np.split(uniforms, 2, axis=1)
        normals = np.sqrt(-2.0 * np.log(radius)) * np.cos(2.0 * math.pi * angle)
        drawn: Array = means + np.exp(log_deviations) * normals
        return drawn

    def log_probability(self, parameters: Array, drawn: Array) -> npt.NDArray[np.float64]:
        """See `PartDistribution`; the density is that of the draw, before it is taken to the action space."""
        means, log_deviations = self._split(parameters)
        standardised = (drawn - means) / np.exp(log_deviations)
        terms = -0.5 * standardised**2 - log_deviations - 0.5 * math.log(2.0 * math.pi)
        total: npt.NDArray[np.float64] = terms.sum(axis=1)
        return total

    def action(self, drawn: Array) -> Array:
        """See `PartDistribution`; what RLlib's NormalizeAndClipActions does."""
        if self._transform == "unsquash":
            drawn = self._low + (drawn + 1.0) * (self._high - self._low) / 2.0
        if self._transform != "none":
            drawn = np.clip(drawn, self._low, self._high)
        action: Array = drawn.reshape(-1, *self._shape).astype(self._dtype)
        return action

    def _split(self, parameters: Array) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        means, log_deviations = np.split(parameters.astype(np.float64), 2, axis=1)
        return means, log_deviations


class SquashedGaussian(DiagonalGaussian):
    """The hyperbolic tangents of independent normals, between -1 and 1. Parameters: those of the normals.

    Its greedy draw is RLlib's: the means before they are squashed, which the transform brings to the bounds.
    """

    def sample(self, parameters: Array, uniforms: Array) -> Array:
        """See `PartDistribution`."""
        return np.tanh(super().sample(parameters, uniforms))

    def log_probability(self, parameters: Array, drawn: Array) -> npt.NDArray[np.float64]:
        """See `PartDistribution`.

        The density of the normals minus log(1 - tanh(x)^2), which is 2 * (log 2 - x - log(1 + exp(-2x))) without loss
        of digits (Haarnoja et al., "Soft Actor-Critic", 2018, appendix C).
        """
        normals = np.arctanh(np.clip(drawn, -1.0 + _SMALL, 1.0 - _SMALL))
        change = 2.0 * (math.log(2.0) - normals - np.logaddexp(0.0, -2.0 * normals))
        total: npt.NDArray[np.float64] = super().log_probability(parameters, normals) - change.sum(axis=1)
        return total

    def _split(self, parameters: Array) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        means, log_deviations = super()._split(parameters)
        return means, np.clip(log_deviations, *_LOG_DEVIATIONS)
