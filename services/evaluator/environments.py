"""Makes environments, and checks that they are those of a policy."""

from __future__ import annotations

import difflib
import importlib
import logging
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium

from steersman import spaces
from steersman.errors import FailedPreconditionError, InvalidArgumentError
from steersman.v1 import common_pb2

_log = logging.getLogger(__name__)

Environment = gymnasium.Env[Any, Any]


def import_modules(modules: Sequence[str]) -> None:
    """Imports what registers environments of one's own.

    Args:
        modules: Names of modules, from this service's settings and never from a request.

    Raises:
        FailedPreconditionError: If one cannot be imported.
    """
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:
            raise FailedPreconditionError(
                f"cannot import {module!r}, which is to register environments: {type(error).__name__}: {error}"
            ) from error


def make_environments(
    environment_id: str,
    kwargs: dict[str, Any],
    count: int,
    into: list[Environment],
    pulse: Callable[[], None] = lambda: None,
) -> None:
    """Makes environments of one kind.

    Args:
        environment_id: Gymnasium id.
        kwargs: Keyword arguments for `gymnasium.make`.
        count: How many.
        into: Where they are put, each as soon as it is made, so that whoever gives up half-way can close them.
        pulse: Called before each.

    Raises:
        InvalidArgumentError: If the id is unknown, or the environment does not take the arguments.
        FailedPreconditionError: If it needs a package that is not installed.
    """
    # Exactly a registered id: gymnasium.make would import any module that "module:id" names.
    if environment_id not in gymnasium.registry:
        near = difflib.get_close_matches(environment_id, gymnasium.registry, n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise InvalidArgumentError(f"expected a registered Gymnasium environment, got {environment_id!r}{hint}")
    # Whether an environment keeps to Gymnasium's rules would otherwise be checked in every step.
    arguments = {"disable_env_checker": True} | kwargs
    try:
        for _ in range(count):
            pulse()
            into.append(gymnasium.make(environment_id, **arguments))
    except gymnasium.error.DependencyNotInstalled as error:
        raise FailedPreconditionError(f"{environment_id} needs a package that is not installed: {error}") from error
    except Exception as error:
        raise InvalidArgumentError(
            f"expected arguments that {environment_id} takes, got {kwargs}: {type(error).__name__}: {error}"
        ) from error


def close_environments(environments: list[Environment]) -> None:
    """Closes environments, all of them even if one cannot be closed."""
    for environment in environments:
        try:
            environment.close()  # type: ignore[no-untyped-call] # gymnasium leaves it out
        except Exception:  # noqa: BLE001 - it is logged, and the others still have to be closed
            _log.exception("cannot close %s", environment)


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
