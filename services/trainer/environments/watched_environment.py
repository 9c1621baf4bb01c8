"""Environments as runs play them: one that raises or hangs ends its run with a sentence that says so.

RLlib loses what an environment raised in a process of its own: that process just ends. So it is left where the run's
job finds it.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import gymnasium
import ray
from ray.experimental import internal_kv

from services.common.causes import in_words
from services.common.environments import Environment, make_environment
from steersman.errors import FailedPreconditionError, SteersmanError
from steersman.v1 import trainer_pb2


class EnvironmentHangsError(FailedPreconditionError):
    """An environment did not return in time."""


class WatchedEnvironment(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Limits how long a reset or a step may take, and reports what goes wrong there.

    Args:
        environment: The environment.
        name: What it is called.
        seconds: The limit.
    """

    def __init__(self, environment: Environment, name: str, seconds: float) -> None:
        super().__init__(environment)
        self._name, self._seconds = name, seconds

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Resets the environment."""
        with reported(f"reset of {self._name}"), limited(f"reset of {self._name}", self._seconds):
            return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:  # noqa: ANN401 - Gymnasium's signature
        """Takes a step."""
        with reported(f"step of {self._name}"), limited(f"step of {self._name}", self._seconds):
            return self.env.step(action)


def make_watched(environment: trainer_pb2.Environment, seconds: float) -> Environment:
    """Makes an environment and watches it.

    Args:
        environment: The environment.
        seconds: How long it may take to be made, and each reset and step.

    Raises:
        EnvironmentHangsError: If it is not made in time.
        SteersmanError: If it cannot be made; see `make_environment`.
    """
    what = f"construction of {environment.id}"
    with reported(what), limited(what, seconds):
        made = make_environment(environment)
    return WatchedEnvironment(made, environment.id, seconds)


def what_went_wrong() -> str:
    """Gives what an environment of this job has last reported, in one sentence; empty if none has."""
    found = internal_kv._internal_kv_get(_key()) if ray.is_initialized() else None  # noqa: SLF001 - see `reported`
    return found.decode() if found else ""


@contextlib.contextmanager
def reported(what: str) -> Iterator[None]:
    """Leaves what is raised where `what_went_wrong` finds it, from any process of the same job, and raises it on.

    Ray's own key-value store is what all of them have in common; it has no public name.

    Args:
        what: What is being done.
    """
    try:
        yield
    except Exception as error:
        if ray.is_initialized():
            reason = str(error) if isinstance(error, SteersmanError) else f"the {what} raised {in_words(error)}"
            internal_kv._internal_kv_put(_key(), " ".join(reason.split()).encode())  # noqa: SLF001
        raise


def _key() -> bytes:
    return f"steersman-environment-{ray.get_runtime_context().get_job_id()}".encode()


@contextlib.contextmanager
def limited(what: str, seconds: float) -> Iterator[None]:
    """Interrupts what takes too long; in the process's main thread, which is where Ray runs actors.

    Elsewhere there is no limit: only the main thread gets signals.

    Args:
        what: What is limited.
        seconds: How long it may take.

    Raises:
        EnvironmentHangsError: If it took longer.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise EnvironmentHangsError(f"the {what} did not return within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
