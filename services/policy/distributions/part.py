"""What every distribution of one part of an action can do."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class PartDistribution(Protocol):
    """The distribution of one part of an action: one tensor.

    Draws are in the distribution's own space; `action` takes them to the environment's.
    """

    @property
    def parameters(self) -> int:
        """How many parameters it has."""

    @property
    def noise(self) -> int:
        """How many uniform numbers a draw takes."""

    def mode(self, parameters: Array) -> Array:
        """Gives the greedy draw for each row of the parameters, [batch, parameters]."""

    def sample(self, parameters: Array, uniforms: Array) -> Array:
        """Gives a random draw for each row of the parameters, made of a row of uniform numbers, [batch, noise]."""

    def log_probability(self, parameters: Array, drawn: Array) -> npt.NDArray[np.float64]:
        """Gives each draw's log-probability, or log-density. Shape [batch]."""

    def action(self, drawn: Array) -> Array:
        """Takes draws to the action space."""
