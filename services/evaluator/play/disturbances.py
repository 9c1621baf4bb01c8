"""What makes an environment harder: noise, lost and late actions, other physics.

What is drawn is drawn anew from the seed of each episode, so that an episode is the same however many environments
play.
"""

from __future__ import annotations

import difflib
import operator
from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Any, SupportsFloat

import gymnasium
import numpy as np

from services.evaluator.play.actions import constant_action
from steersman.environments.making import Environment
from steersman.errors import InvalidArgumentError
from steersman.quoting import quoted
from steersman.v1 import evaluator_pb2

_Wrapper = gymnasium.Wrapper[Any, Any, Any, Any]
_Stepped = tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]


class Kind(Enum):
    """How an environment is made harder; see `DisturbanceKind` in the protos."""

    OBSERVATION_NOISE = 1
    DROPPED_ACTIONS = 2
    DELAYED_ACTIONS = 3
    PARAMETER = 4


@dataclass(frozen=True)
class Disturbance:
    """One strength of a disturbance.

    Attributes:
        kind: What.
        strength: How much; see `DisturbanceKind` in the protos.
        attribute: Which, for a parameter.
    """

    kind: Kind
    strength: float
    attribute: str = ""


def name_of(message: evaluator_pb2.Disturbance) -> str:
    """Gives a disturbance's name: "observation_noise", or "parameter gravity"."""
    kind = Kind(message.kind)
    return f"{kind.name.lower()} {message.attribute}".strip()


def disturbed(environment: Environment, disturbance: Disturbance) -> Environment:
    """Makes an environment harder.

    Raises:
        InvalidArgumentError: If its observations have no number that could be noisy, or it has no such parameter.
    """
    if disturbance.kind is Kind.OBSERVATION_NOISE:
        return NoisyObservations(environment, disturbance.strength)
    if disturbance.kind is Kind.DROPPED_ACTIONS:
        return DroppedActions(environment, disturbance.strength)
    if disturbance.kind is Kind.DELAYED_ACTIONS:
        return DelayedActions(environment, int(disturbance.strength))
    scale_parameter(environment, disturbance.attribute, disturbance.strength)
    return environment


class NoisyObservations(_Wrapper):
    """Adds normal noise to what is seen.

    Args:
        env: The environment; some of its observation's numbers are floating-point ones.
        deviation: Standard deviation of the noise.
    """

    def __init__(self, env: Environment, deviation: float) -> None:
        super().__init__(env)
        if not _has_numbers(env.observation_space):
            raise InvalidArgumentError(
                f"expected an environment whose observations have floating-point numbers, for noise, got "
                f"{env.observation_space}"
            )
        self._deviation = deviation
        self._random = np.random.default_rng()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begins an episode."""
        self._random = _random(Kind.OBSERVATION_NOISE, seed)
        observation, info = self.env.reset(seed=seed, options=options)
        return self._noisy(observation, self.env.observation_space), info

    def step(self, action: Any) -> _Stepped:  # noqa: ANN401 - of the environment's own type
        """Takes a step."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._noisy(observation, self.env.observation_space), reward, terminated, truncated, info

    def _noisy(self, observation: Any, space: gymnasium.Space[Any]) -> Any:  # noqa: ANN401 - of the space's own type
        if isinstance(space, gymnasium.spaces.Dict):
            return {name: self._noisy(observation[name], part) for name, part in space.items()}
        if isinstance(space, gymnasium.spaces.Tuple):
            return tuple(self._noisy(part, of) for part, of in zip(observation, space, strict=True))
        if not _has_numbers(space):
            return observation
        noise = self._random.normal(0.0, self._deviation, space.shape)
        return (np.asarray(observation, np.float64) + noise).astype(space.dtype)


class DroppedActions(_Wrapper):
    """Loses actions: then the one before is taken again, in the first step the one that is nearest to 0.

    Args:
        env: The environment.
        probability: Of losing an action.
    """

    def __init__(self, env: Environment, probability: float) -> None:
        super().__init__(env)
        self._probability = probability
        self._random = np.random.default_rng()
        self._last = constant_action(env.action_space)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begins an episode."""
        self._random = _random(Kind.DROPPED_ACTIONS, seed)
        self._last = constant_action(self.env.action_space)
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> _Stepped:  # noqa: ANN401 - of the environment's own type
        """Takes a step."""
        if self._random.random() >= self._probability:
            self._last = action
        return self.env.step(self._last)


class DelayedActions(_Wrapper):
    """Takes actions later; until the first one arrives, the one that is nearest to 0 is taken.

    Args:
        env: The environment.
        steps: By how many steps.
    """

    def __init__(self, env: Environment, steps: int) -> None:
        super().__init__(env)
        self._steps = steps
        self._on_their_way: deque[Any] = deque()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begins an episode."""
        self._on_their_way = deque([constant_action(self.env.action_space)] * self._steps)
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> _Stepped:  # noqa: ANN401 - of the environment's own type
        """Takes a step."""
        self._on_their_way.append(action)
        return self.env.step(self._on_their_way.popleft())


def scale_parameter(environment: Environment, attribute: str, factor: float) -> None:
    """Multiplies a number of the innermost environment's, or an array of them.

    Args:
        environment: The environment.
        attribute: Its name; a path where it is an attribute's, such as "model.opt.timestep".
        factor: By what.

    Raises:
        InvalidArgumentError: If there is no such attribute, it is no number, or it cannot be set.
    """
    path, _, name = attribute.rpartition(".")
    try:
        owner = operator.attrgetter(path)(environment.unwrapped) if path else environment.unwrapped
        value = getattr(owner, name)
    except AttributeError:
        near = difflib.get_close_matches(attribute, vars(environment.unwrapped), n=3)
        hint = f"; near matches: {', '.join(near)}" if near else ""
        raise InvalidArgumentError(
            f"expected an attribute of {type(environment.unwrapped).__name__}, got {quoted(attribute)}{hint}"
        ) from None
    if isinstance(value, bool) or not np.issubdtype(np.asarray(value).dtype, np.number):
        raise InvalidArgumentError(f"expected an attribute that is a number, got {attribute} = {quoted(value)}")
    scaled = value * factor
    if isinstance(value, np.ndarray):
        scaled = scaled.astype(value.dtype)
    try:
        setattr(owner, name, scaled)
    except (AttributeError, TypeError, ValueError) as error:
        raise InvalidArgumentError(f"expected an attribute that can be set, got {attribute}: {error}") from error


def _has_numbers(space: gymnasium.Space[Any]) -> bool:
    if isinstance(space, gymnasium.spaces.Dict):
        return any(map(_has_numbers, space.values()))
    if isinstance(space, gymnasium.spaces.Tuple):
        return any(map(_has_numbers, space))
    return isinstance(space, gymnasium.spaces.Box) and np.issubdtype(space.dtype, np.floating)


def _random(kind: Kind, seed: int | None) -> np.random.Generator:
    return np.random.default_rng() if seed is None else np.random.default_rng([kind.value, seed])
