"""Gymnasium environments, made from what a request says of them: the same way wherever one is played."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import gymnasium

from steersman.arguments import kwargs_of
from steersman.causes import in_words
from steersman.environments.checked import CheckedEnvironment
from steersman.environments.learning_wrappers import check_wrappers
from steersman.environments.raw_rewards import RawRewards, RewardMeter
from steersman.errors import FailedPreconditionError, InvalidArgumentError, SteersmanError
from steersman.quoting import quoted
from steersman.v1 import trainer_pb2

Environment = gymnasium.Env[Any, Any]

_ATARI = "ALE/"

_EXTRAS = (
    ("gymnasium.envs.mujoco", "mujoco"),
    ("gymnasium.envs.box2d", "box2d"),
)
"""Which extra of Steersman's has what the environments of a module need."""


def make_environment(environment: trainer_pb2.Environment) -> Environment:
    """Makes an environment, wrappers included, that keeps to its spaces; see `CheckedEnvironment`.

    Where there are wrappers, the information of its steps has the environment's own rewards; see `RawRewards`.

    Args:
        environment: Its id, arguments and wrappers. "module:id" imports the module.

    Raises:
        InvalidArgumentError: If the id is not registered, the environment cannot be made with the arguments, a wrapper
            cannot be found or cannot be put around it, or it keeps what a version cannot hold.
        FailedPreconditionError: If it needs a package that is not installed; names the extra where it is one of ours.
    """
    made = _bare(environment)
    if environment.wrappers:
        meter = RewardMeter(made, environment.id)
        made = meter
        for wrapper in environment.wrappers:
            made = _wrapped(made, wrapper)
        made = RawRewards(made, meter)
    check_wrappers(made)
    return CheckedEnvironment(made, environment.id)


def _bare(environment: trainer_pb2.Environment) -> Environment:
    kwargs = kwargs_of(environment)
    check_registered(environment.id)
    try:
        # Whether an environment keeps to Gymnasium's rules was checked when the run was asked for; not in every step.
        return gymnasium.make(environment.id, disable_env_checker=True, **kwargs)
    except gymnasium.error.DependencyNotInstalled as error:
        raise FailedPreconditionError(_needs(environment.id, error)) from error
    except SteersmanError:
        raise
    except Exception as error:
        if _is_about_arguments(error):
            raise InvalidArgumentError(
                f"expected arguments that {environment.id} takes, got {kwargs}: {in_words(error)}"
            ) from error
        arguments = f" with {kwargs}" if kwargs else ""
        raise InvalidArgumentError(
            f"expected an environment that can be made, but {environment.id}{arguments} raised {in_words(error)}"
        ) from error


def _is_about_arguments(error: Exception) -> bool:
    """Tells whether the environment, or Gymnasium for it, did not take the arguments, from how Python says that."""
    if not isinstance(error, TypeError):
        return isinstance(error, AssertionError | gymnasium.error.Error)
    return any(words in str(error) for words in ("unexpected keyword", "required positional", "required keyword"))


def check_registered(environment_id: str) -> None:
    """Checks that an environment is registered, after importing the module that its id names, if it does.

    Raises:
        InvalidArgumentError: If it is not; names near matches.
        FailedPreconditionError: If it is one of Atari's, and those are not installed.
    """
    module, separator, name = environment_id.rpartition(":")
    if separator:
        try:
            importlib.import_module(module)
        except Exception as error:
            raise InvalidArgumentError(
                f"cannot import {quoted(module)} of environment {quoted(environment_id)}: {in_words(error)}"
            ) from error
    elif name.startswith(_ATARI):
        if importlib.util.find_spec("ale_py") is None:
            raise FailedPreconditionError(
                f"{quoted(environment_id)} needs the extra `atari`, which is not installed: "
                "pip install 'steersman[atari]'"
            )
        gymnasium.register_envs(importlib.import_module("ale_py"))
    if name not in gymnasium.registry:
        near = difflib.get_close_matches(name, gymnasium.registry, n=3, cutoff=0.5)
        hint = f"; near matches: {', '.join(near)}" if near else ""
        raise InvalidArgumentError(f"expected a registered Gymnasium environment, got {quoted(environment_id)}{hint}")


def _wrapped(made: Environment, wrapper: trainer_pb2.EnvironmentWrapper) -> Environment:
    kwargs = kwargs_of(wrapper)
    try:
        wrapped = _found(wrapper.path)(made, **kwargs)
    except SteersmanError:
        raise
    except gymnasium.error.DependencyNotInstalled as error:
        raise FailedPreconditionError(f"{wrapper.path} needs a package that is not installed: {error}") from error
    except Exception as error:
        raise InvalidArgumentError(
            f"expected a wrapper that goes around {made}, got {wrapper.path} with {kwargs}: {in_words(error)}"
        ) from error
    if not isinstance(wrapped, gymnasium.Env):
        raise InvalidArgumentError(
            f"expected an environment from the wrapper {wrapper.path}, got {type(wrapped).__name__}"
        )
    return wrapped


def _found(path: str) -> Callable[..., Any]:
    module, separator, name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), name) if separator else None
    except Exception as error:
        raise InvalidArgumentError(f"cannot import the wrapper {quoted(path)}: {in_words(error)}") from error
    if not callable(found):
        raise InvalidArgumentError(
            f'expected "package.module:Name" of a gymnasium.Wrapper, or of a function from environment to '
            f"environment, got {quoted(path)}"
        )
    return found  # type: ignore[no-any-return] # anything callable


def _needs(environment_id: str, error: Exception) -> str:
    entry_point = str(gymnasium.registry[environment_id.rpartition(":")[2]].entry_point)
    for module, extra in _EXTRAS:
        if entry_point.startswith(module):
            return (
                f"{environment_id} needs the extra `{extra}`, which is not installed: pip install 'steersman[{extra}]'"
            )
    return f"{environment_id} needs a package that is not installed: {error}"
