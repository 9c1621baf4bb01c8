"""Makes environments, and checks that they are those of a policy."""

from __future__ import annotations

import difflib
from typing import Any

import gymnasium

from steersman import spaces
from steersman.errors import FailedPreconditionError, InvalidArgumentError
from steersman.v1 import common_pb2

Environment = gymnasium.Env[Any, Any]


def make_environments(environment_id: str, kwargs: dict[str, Any], count: int) -> list[Environment]:
    """Makes environments of one kind.

    Args:
        environment_id: Gymnasium id.
        kwargs: Keyword arguments for `gymnasium.make`.
        count: How many.

    Raises:
        InvalidArgumentError: If the id is unknown.
        FailedPreconditionError: If the environment cannot be made, for instance from these arguments.
    """
    if environment_id not in gymnasium.registry:
        near = difflib.get_close_matches(environment_id, gymnasium.registry, n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise InvalidArgumentError(f"expected a registered Gymnasium environment, got {environment_id!r}{hint}")
    environments: list[Environment] = []
    try:
        for _ in range(count):
            environments.append(gymnasium.make(environment_id, **kwargs))
    except Exception as error:
        close_environments(environments)
        raise FailedPreconditionError(f"cannot make {environment_id} with {kwargs}: {error}") from error
    return environments


def close_environments(environments: list[Environment]) -> None:
    """Closes environments."""
    for environment in environments:
        environment.close()  # type: ignore[no-untyped-call] # gymnasium leaves it out


def check_spaces(environment: Environment, spec: common_pb2.PolicySpec) -> None:
    """Checks that an environment has the spaces of a policy.

    Raises:
        InvalidArgumentError: If a space differs, or is of a kind that cannot travel.
    """
    for name, space, expected in (
        ("observation", environment.observation_space, spec.observation_space),
        ("action", environment.action_space, spec.action_space),
    ):
        got = spaces.from_gymnasium(space)
        if got != expected:
            raise InvalidArgumentError(
                f"expected an environment with {name} space {spaces.describe(expected)}, as the policy has, "
                f"got {spaces.describe(got)}"
            )
