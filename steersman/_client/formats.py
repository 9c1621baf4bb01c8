"""What travels between a client and one version of a policy, prepared for many requests."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt

from steersman import spaces, tensors
from steersman.errors import FailedPreconditionError, InvalidArgumentError
from steersman.v1 import common_pb2


@dataclass(frozen=True)
class Format:
    """What a policy takes and gives, ready for use.

    Attributes:
        observation: The tensors of an observation.
        action: The tensors of an action.
        takes_reward: Whether the policy also takes the reward of the step before.
        answer_bytes: Bytes of an action and the state after it, for one observation.
        extra_bytes: The same for each extra, by name.
        unbounded_spaces: The spaces without the bounds of their boxes, as bytes to compare.
    """

    observation: spaces.Layout
    action: spaces.Layout
    takes_reward: bool
    answer_bytes: int
    extra_bytes: Mapping[str, int]
    unbounded_spaces: tuple[bytes, bytes]

    @classmethod
    def of(cls, spec: common_pb2.PolicySpec) -> Self:
        """Prepares what a policy's spec says.

        Raises:
            FailedPreconditionError: If its tensors are not those of its spaces: this client is too old for it.
        """
        observation_tensors = spaces.tensor_specs(spec.observation_space, spaces.OBSERVATION)
        takes_reward = any(tensor.name == spaces.PREVIOUS_REWARD for tensor in spec.observation_tensors)
        if takes_reward:
            observation_tensors.append(
                common_pb2.TensorSpec(name=spaces.PREVIOUS_REWARD, dtype=common_pb2.DATA_TYPE_FLOAT32)
            )
        action_tensors = spaces.tensor_specs(spec.action_space, spaces.ACTION)
        for expected, got in ((observation_tensors, spec.observation_tensors), (action_tensors, spec.action_tensors)):
            if expected != list(got):
                raise FailedPreconditionError(
                    f"expected a policy that travels as {_names(expected)}, got {_names(got)}; is this client too old?"
                )
        return cls(
            spaces.layout(spec.observation_space, spaces.OBSERVATION),
            spaces.layout(spec.action_space, spaces.ACTION),
            takes_reward,
            sum(map(_bytes, (*spec.action_tensors, *spec.state_tensors))),
            {extra.name: _bytes(extra) for extra in spec.extra_tensors},
            (_unbounded(spec.observation_space), _unbounded(spec.action_space)),
        )

    def has_spaces_of(self, other: Format) -> bool:
        """Tells whether samples of the other's spaces are samples of this one's, but for the bounds of boxes."""
        return self.unbounded_spaces == other.unbounded_spaces and self.takes_reward == other.takes_reward

    @cached_property
    def limits(self) -> tuple[spaces.Limits, ...]:
        """Between which numbers the tensors of an observation lie."""
        return spaces.limits_of(self.observation)

    def encode(self, observation: spaces.Sample, reward: npt.ArrayLike | None, *, validate: bool) -> spaces.Tensors:
        """Gives the tensors of an observation, or of a batch of them.

        Args:
            observation: See `spaces.flatten`.
            reward: The reward of the step before; one for each observation of a batch.
            validate: Whether to check that each observation lies in its space.

        Raises:
            InvalidArgumentError: If the observation does not fit, or a reward is missing, unwanted or not a number.
        """
        arrays = spaces.flatten(observation, self.observation)
        if validate:
            spaces.check_limits(arrays, self.limits)
        if self.takes_reward:
            arrays[spaces.PREVIOUS_REWARD] = _rewards(reward, spaces.batch_axes(arrays, self.observation))
        elif reward is not None:
            raise InvalidArgumentError("expected no reward, since the policy does not take that of the step before")
        return arrays


def _rewards(reward: npt.ArrayLike | None, axes: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Gives the rewards of the step before as they travel: one for each observation."""
    wanted = f"one for each of {axes[0]} observations" if axes else "one number"
    if reward is None:
        raise InvalidArgumentError(
            f"expected the reward of the step before, which the policy takes, {wanted}, 0 in the first step; got none"
        )
    try:
        rewards = np.asarray(reward, np.float32)
    except (TypeError, ValueError):
        raise InvalidArgumentError(f"expected the reward of the step before, {wanted}, got {reward!r}") from None
    if rewards.shape != axes:
        raise InvalidArgumentError(f"expected the reward of the step before, {wanted}, got shape {list(rewards.shape)}")
    return rewards


def _unbounded(space: common_pb2.Space) -> bytes:
    """Writes a space without the bounds of its boxes."""
    copy = common_pb2.Space()
    copy.CopyFrom(space)
    parts = [copy]
    while parts:
        part = parts.pop()
        kind = part.WhichOneof("kind")
        if kind == "box":
            part.box.ClearField("low")
            part.box.ClearField("high")
        elif kind == "dict":
            parts += [named.space for named in part.dict.parts]
        elif kind == "tuple":
            parts += part.tuple.parts
    return copy.SerializeToString(deterministic=True)


def _bytes(spec: common_pb2.TensorSpec) -> int:
    dtype = tensors.NUMPY_DTYPES.get(spec.dtype)
    return (dtype.itemsize if dtype else 0) * math.prod(spec.shape)


def _names(specs: Iterable[common_pb2.TensorSpec]) -> list[str]:
    return [f"{spec.name} {tensors.describe(spec.dtype, spec.shape)}" for spec in specs]
