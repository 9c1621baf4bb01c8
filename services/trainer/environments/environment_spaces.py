"""What a run has to know of its environment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium

from steersman.environments.making import make_environment
from steersman.v1 import trainer_pb2


@dataclass(frozen=True)
class EnvironmentSpaces:
    """The spaces of an environment.

    Attributes:
        observation: What it emits.
        action: What it takes.
    """

    observation: gymnasium.Space[Any]
    action: gymnasium.Space[Any]


def spaces_of(environment: trainer_pb2.Environment) -> EnvironmentSpaces:
    """Makes an environment once, in this process, and gives its spaces.

    Raises:
        InvalidArgumentError: If it cannot be made as it was asked for.
        FailedPreconditionError: If it needs a package that is not installed.
    """
    made = make_environment(environment)
    try:
        return EnvironmentSpaces(made.observation_space, made.action_space)
    finally:
        made.close()  # type: ignore[no-untyped-call] # Gymnasium's signature
