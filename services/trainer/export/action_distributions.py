"""RLlib's action distributions, described for the bundle, and their greedy actions as torch functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from ray.rllib.core.distribution.torch import torch_distribution

from steersman.errors import FailedPreconditionError

Mode = Callable[[torch.Tensor], torch.Tensor]
"""Gives the greedy action for each row of a distribution's parameters."""


@dataclass(frozen=True)
class LeafDistribution:
    """The distribution of one part of an action.

    Attributes:
        kind: As in `ActionDistribution.kind`.
        width: How many numbers of the module's output belong to it.
        mode: Its greedy action, numbered and scaled as RLlib does, from those numbers.
    """

    kind: str
    width: int
    mode: Mode

    @property
    def parameters(self) -> int:
        """How many parameters it has to draw from: none where the module gives the action itself."""
        return 0 if self.kind == "deterministic" else self.width


def describe(kind: Any, parameters: torch.Tensor) -> list[LeafDistribution]:  # noqa: ANN401 - RLlib has no types
    """Describes an action distribution.

    Args:
        kind: RLlib's class, as `RLModule.get_inference_action_dist_cls` gives it.
        parameters: Parameters for at least one action, float32, shape [batch, n].

    Returns:
        One distribution for each part of the action, in RLlib's order.

    Raises:
        FailedPreconditionError: If it is unknown.
    """
    # Some classes know their parts only through what they were specialised with, so an example tells.
    return _describe(kind.from_logits(parameters))


def _describe(example: Any) -> list[LeafDistribution]:  # noqa: ANN401
    kind = _unspecialised(type(example))
    if kind is torch_distribution.TorchMultiDistribution:
        parts = [_describe(part) for part in example._flat_child_distributions]  # noqa: SLF001 - nothing else tells
        return [leaf for part in parts for leaf in part]
    if kind is torch_distribution.TorchCategorical:
        return [LeafDistribution("categorical", example.logits.shape[-1], _most_likely)]
    if kind is torch_distribution.TorchMultiCategorical:
        sizes = [categorical.logits.shape[-1] for categorical in example._cats]  # noqa: SLF001
        return [LeafDistribution("multi_categorical", sum(sizes), lambda logits: _most_likely_each(logits, sizes))]
    if kind is torch_distribution.TorchDiagGaussian:
        return [LeafDistribution("diagonal_gaussian", 2 * example.loc.shape[-1], _means)]
    if kind is torch_distribution.TorchSquashedGaussian and (example.low, example.high) == (-1.0, 1.0):
        # RLlib takes the mean before it is squashed for the greedy action, and lets the clipping do the rest.
        return [LeafDistribution("squashed_gaussian", 2 * example.loc.shape[-1], _means)]
    if kind is torch_distribution.TorchDeterministic:
        return [LeafDistribution("deterministic", example.loc.shape[-1], lambda parameters: parameters)]
    raise FailedPreconditionError(
        f"cannot export the action distribution {getattr(kind, '__name__', kind)}: expected TorchCategorical, "
        "TorchMultiCategorical, TorchDiagGaussian, TorchSquashedGaussian between -1 and 1, TorchDeterministic, or a "
        "TorchMultiDistribution of those"
    )


def _unspecialised(kind: type) -> type:
    """Gives the class that `Distribution.get_partial_dist_cls` made a class from; others as they are."""
    return kind.__mro__[1] if kind.__qualname__.endswith("DistributionPartial") else kind


def _most_likely(logits: torch.Tensor) -> torch.Tensor:
    return logits.argmax(dim=-1)


def _most_likely_each(logits: torch.Tensor, sizes: list[int]) -> torch.Tensor:
    return torch.stack([part.argmax(dim=-1) for part in logits.split(sizes, dim=-1)], dim=-1)


def _means(parameters: torch.Tensor) -> torch.Tensor:
    return parameters.chunk(2, dim=-1)[0]
