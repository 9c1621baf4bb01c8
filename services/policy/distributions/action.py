"""The distribution of a whole action: one for each part, independent of each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from services.policy.distributions.discrete import Bernoulli, Categorical, MultiCategorical
from services.policy.distributions.gaussian import DiagonalGaussian, SquashedGaussian
from services.policy.distributions.part import Array, PartDistribution
from services.policy.randomness import Draw, uniforms
from steersman.errors import InvalidArgumentError
from steersman.v1 import common_pb2

_TRANSFORMS = ("", "none", "clip", "unsquash")


class ActionDistributions:
    """The distributions of those parts of an action that are drawn; other parts have their greedy action only.

    Args:
        spec: What the policy takes and gives.

    Attributes:
        parameters: How many parameters they have together.

    Raises:
        InvalidArgumentError: If one is unknown, does not go with its part of the action space, or has another number of
            parameters.
    """

    def __init__(self, spec: common_pb2.PolicySpec) -> None:
        parts = list(_parts(spec.action_space))
        if not len(spec.action_distributions) == len(spec.action_tensors) == len(parts):
            raise InvalidArgumentError(
                f"expected one distribution and one tensor for each of {len(parts)} parts of the action, got "
                f"{len(spec.action_distributions)} and {len(spec.action_tensors)}"
            )
        self._by_name: dict[str, PartDistribution] = {}
        for tensor, wanted, part in zip(spec.action_tensors, spec.action_distributions, parts, strict=True):
            found = _distribution(wanted, part)
            if found is not None:
                self._by_name[tensor.name] = found
        self._boundaries = np.cumsum([part.parameters for part in self._by_name.values()])[:-1]
        self._noise_boundaries = np.cumsum([part.noise for part in self._by_name.values()])[:-1]
        self.parameters = sum(part.parameters for part in self._by_name.values())

    def __bool__(self) -> bool:
        """Tells whether anything is drawn."""
        return bool(self._by_name)

    def mode(self, parameters: Array) -> list[Array]:
        """Gives the greedy draws of each part.

        Args:
            parameters: Float32, [batch, parameters].
        """
        return [part.mode(own) for part, own in self._with(parameters)]

    def sample(self, parameters: Array, draws: Sequence[Draw]) -> list[Array]:
        """Gives random draws of each part.

        Args:
            parameters: Float32, [batch, parameters].
            draws: Whose observations they are, and their seeds.
        """
        numbers = uniforms(draws, sum(part.noise for part in self._by_name.values()))
        noise = np.split(numbers, self._noise_boundaries, axis=1)
        return [part.sample(own, of) for (part, own), of in zip(self._with(parameters), noise, strict=True)]

    def log_probability(self, parameters: Array, drawn: Sequence[Array]) -> npt.NDArray[np.float32]:
        """Gives the log-probability of the draws of all parts together. Float32, [batch]."""
        total = np.zeros(len(parameters))
        for (part, own), chosen in zip(self._with(parameters), drawn, strict=True):
            total += part.log_probability(own, chosen)
        return total.astype(np.float32)

    def actions(self, drawn: Sequence[Array]) -> dict[str, Array]:
        """Takes the draws of each part to the action space. By wire name."""
        return {name: part.action(of) for (name, part), of in zip(self._by_name.items(), drawn, strict=True)}

    def _with(self, parameters: Array) -> Iterator[tuple[PartDistribution, Array]]:
        return zip(self._by_name.values(), np.split(parameters, self._boundaries, axis=1), strict=True)


def _parts(space: common_pb2.Space) -> Iterator[common_pb2.Space]:
    """Gives the parts that have no parts themselves, in the order of the action's tensors."""
    kind = space.WhichOneof("kind")
    if kind == "dict":
        for named in space.dict.parts:
            yield from _parts(named.space)
    elif kind == "tuple":
        for part in space.tuple.parts:
            yield from _parts(part)
    else:
        yield space


def _distribution(wanted: common_pb2.ActionDistribution, space: common_pb2.Space) -> PartDistribution | None:
    """Makes the distribution of one part; None for one that is never drawn."""
    found: PartDistribution
    match wanted.kind, space.WhichOneof("kind"):
        case "deterministic", _:
            return None
        case "categorical", "discrete":
            found = Categorical(space.discrete)
        case "multi_categorical", "multi_discrete":
            found = MultiCategorical(space.multi_discrete)
        case "bernoulli", "multi_binary":
            found = Bernoulli(space.multi_binary)
        case "diagonal_gaussian", "box" if wanted.transform in _TRANSFORMS:
            found = DiagonalGaussian(space.box, wanted.transform or "none")
        case "squashed_gaussian", "box" if wanted.transform in _TRANSFORMS:
            found = SquashedGaussian(space.box, wanted.transform or "none")
        case _, kind:
            raise InvalidArgumentError(
                f"expected an action distribution that is known for a {kind} space, got {wanted.kind!r} with transform "
                f"{wanted.transform!r}"
            )
    if found.parameters != wanted.parameters:
        raise InvalidArgumentError(
            f"expected {found.parameters} parameters of a {wanted.kind} for its space, got {wanted.parameters}"
        )
    return found
