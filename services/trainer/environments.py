"""Gymnasium environments: from a request to spaces."""

from __future__ import annotations

import difflib
from typing import Any

import gymnasium

from steersman.errors import FailedPreconditionError, InvalidArgumentError


def spaces_of(environment_id: str, kwargs: dict[str, Any]) -> tuple[gymnasium.Space[Any], gymnasium.Space[Any]]:
    """Makes an environment once and gives its spaces.

    Args:
        environment_id: A registered id, such as "CartPole-v1".
        kwargs: Keyword arguments for `gymnasium.make`.

    Returns:
        The observation space and the action space.

    Raises:
        InvalidArgumentError: If the id is not registered, or the environment does not take the arguments.
        FailedPreconditionError: If it needs a package that is not installed.
    """
    # Exactly a registered id: gymnasium.make would import any module that "module:id" names.
    if environment_id not in gymnasium.registry:
        near = difflib.get_close_matches(environment_id, gymnasium.registry, n=3, cutoff=0.5)
        hint = f"; near matches: {', '.join(near)}" if near else ""
        raise InvalidArgumentError(f"expected a registered Gymnasium environment, got {environment_id!r}{hint}")
    try:
        environment = gymnasium.make(environment_id, **kwargs)
    except gymnasium.error.DependencyNotInstalled as error:
        raise FailedPreconditionError(f"{environment_id} needs a package that is not installed: {error}") from error
    except Exception as error:
        raise InvalidArgumentError(
            f"expected arguments that {environment_id} takes, got {kwargs}: {type(error).__name__}: {error}"
        ) from error
    try:
        return environment.observation_space, environment.action_space
    finally:
        environment.close()  # type: ignore[no-untyped-call] # Gymnasium's signature
