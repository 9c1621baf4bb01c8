"""Distributions of integers: one of several, one of several in each place, and zeros and ones."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from services.policy.distributions.part import Array
from steersman import tensors
from steersman.v1 import common_pb2


class Categorical:
    """One of n actions. Parameters: n logits.

    Args:
        space: The action space.
    """

    def __init__(self, space: common_pb2.DiscreteSpace) -> None:
        self.parameters = self.noise = int(space.n)
        self._start = space.start
        self._dtype = tensors.NUMPY_DTYPES[space.dtype]

    def mode(self, parameters: Array) -> Array:
        """See `PartDistribution`."""
        return np.asarray(np.argmax(parameters, axis=1))

    def sample(self, parameters: Array, uniforms: Array) -> Array:
        """See `PartDistribution`."""
        return _gumbel_max(parameters, uniforms)

    def log_probability(self, parameters: Array, drawn: Array) -> npt.NDArray[np.float64]:
        """See `PartDistribution`."""
        return _log_softmax_at(parameters, drawn)

    def action(self, drawn: Array) -> Array:
        """See `PartDistribution`."""
        return (drawn + self._start).astype(self._dtype)


class MultiCategorical:
    """One of several in each of some places, independently. Parameters: the logits of the first place, and so on.

    Args:
        space: The action space.
    """

    def __init__(self, space: common_pb2.MultiDiscreteSpace) -> None:
        self.parameters = self.noise = sum(space.n)
        self._boundaries = np.cumsum(space.n)[:-1]
        self._start = np.array(space.start or [0] * len(space.n))
        self._shape = tuple(space.shape)
        self._dtype = tensors.NUMPY_DTYPES[space.dtype]

    def mode(self, parameters: Array) -> Array:
        """See `PartDistribution`. Shape [batch, places]."""
        return np.stack([np.argmax(logits, axis=1) for logits in self._places(parameters)], axis=1)

    def sample(self, parameters: Array, uniforms: Array) -> Array:
        """See `PartDistribution`. Shape [batch, places]."""
        places = zip(self._places(parameters), self._places(uniforms), strict=True)
        return np.stack([_gumbel_max(logits, numbers) for logits, numbers in places], axis=1)

    def log_probability(self, parameters: Array, drawn: Array) -> npt.NDArray[np.float64]:
        """See `PartDistribution`; the sum over the places."""
        total = np.zeros(len(parameters))
        for logits, chosen in zip(self._places(parameters), drawn.T, strict=True):
            total += _log_softmax_at(logits, chosen)
        return total

    def action(self, drawn: Array) -> Array:
        """See `PartDistribution`."""
        action: Array = (drawn + self._start).reshape(-1, *self._shape).astype(self._dtype)
        return action

    def _places(self, row: Array) -> list[Array]:
        return np.split(row, self._boundaries, axis=1)


class Bernoulli:
    """Zeros and ones, independently. Parameters: the logit of a one, for each place.

    Args:
        space: The action space.
    """

    def __init__(self, space: common_pb2.MultiBinarySpace) -> None:
        self._shape = tuple(space.shape)
        self.parameters = self.noise = math.prod(self._shape)
        self._dtype = tensors.NUMPY_DTYPES[space.dtype]

    def mode(self, parameters: Array) -> Array:
        """See `PartDistribution`; zero where both are equally probable."""
        return np.asarray(parameters > 0)

    def sample(self, parameters: Array, uniforms: Array) -> Array:
        """See `PartDistribution`; the inverse of the logistic function needs no exponent that could overflow."""
        return np.asarray(np.log(uniforms) - np.log1p(-uniforms) < parameters)

    def log_probability(self, parameters: Array, drawn: Array) -> npt.NDArray[np.float64]:
        """See `PartDistribution`; the sum over the places of log(1 / (1 + exp(-logit))), or of its opposite."""
        signed = np.where(drawn, parameters, -parameters).astype(np.float64)
        total: npt.NDArray[np.float64] = -np.logaddexp(0.0, -signed).sum(axis=1)
        return total

    def action(self, drawn: Array) -> Array:
        """See `PartDistribution`."""
        return drawn.reshape(-1, *self._shape).astype(self._dtype)


def _gumbel_max(logits: Array, uniforms: Array) -> Array:
    """Draws by the Gumbel-max trick (Gumbel, 1954): argmax of logits + Gumbel noise."""
    return np.asarray(np.argmax(logits - np.log(-np.log(uniforms)), axis=1))


def _log_softmax_at(logits: Array, chosen: Array) -> npt.NDArray[np.float64]:
    """Gives the log-softmax of the chosen logits, shifted by the largest one so that nothing overflows."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    result: npt.NDArray[np.float64] = np.take_along_axis(shifted, chosen[:, np.newaxis], axis=1)[:, 0] - np.log(
        np.exp(shifted).sum(axis=1)
    )
    return result
