"""Environments that a command plays itself, on the user's machine."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium

from steersman.arguments import kwargs_of
from steersman.errors import InvalidArgumentError
from steersman.quoting import quoted
from steersman.v1 import trainer_pb2


def enter_code(working_dir: str, py_modules: Sequence[str]) -> None:
    """Makes code of the user's own importable, as it is for a run.

    Args:
        working_dir: A folder; empty for none.
        py_modules: Folders of packages.

    Raises:
        InvalidArgumentError: If one of them is no folder.
    """
    for folder in (working_dir, *py_modules):
        if folder and not Path(folder).is_dir():
            raise InvalidArgumentError(f"expected a folder with code on this machine, got {quoted(folder)}")
    folders = [Path(working_dir).absolute()] if working_dir else []
    folders += [Path(folder).absolute().parent for folder in py_modules]
    sys.path[:0] = map(str, folders)


def make_environment(environment: trainer_pb2.Environment) -> gymnasium.Env[Any, Any]:
    """Makes an environment with its wrappers.

    Raises:
        InvalidArgumentError: If a wrapper cannot be found, or does not go around it.
        gymnasium.error.Error: If it is not registered, or needs what is not installed.
        TypeError: If it does not take its arguments.
    """
    made: gymnasium.Env[Any, Any] = gymnasium.make(environment.id, **kwargs_of(environment))
    for wrapper in environment.wrappers:
        module, _, name = wrapper.path.partition(":")
        try:
            made = getattr(importlib.import_module(module), name)(made, **kwargs_of(wrapper))
        except Exception as error:
            raise InvalidArgumentError(
                f"expected a wrapper that goes around {made}, got {quoted(wrapper.path)}: "
                f"{type(error).__name__}: {error}"
            ) from error
    return made
