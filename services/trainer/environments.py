"""Gymnasium environments: from a request to spaces."""

from __future__ import annotations

import difflib
from typing import Any

import gymnasium
from google.protobuf import json_format, struct_pb2

from steersman.errors import FailedPreconditionError, InvalidArgumentError


def plain_values(struct: struct_pb2.Struct) -> dict[str, Any]:
    """Gives a `Struct` as Python values, with whole numbers as integers, which JSON does not tell from floats."""
    plain: dict[str, Any] = _whole(json_format.MessageToDict(struct))
    return plain


def _whole(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


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
