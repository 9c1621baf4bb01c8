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

from steersman.causes import in_words
from steersman.environments.making import Environment, make_environment
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
        trial: The number of the trial that plays it.
    """

    def __init__(self, environment: Environment, name: str, seconds: float, trial: int = 0) -> None:
        super().__init__(environment)
        self._name, self._seconds, self._trial = name, seconds, trial

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Resets the environment."""
        with reported(f"reset of {self._name}", self._trial), limited(f"reset of {self._name}", self._seconds):
            return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:  # noqa: ANN401 - Gymnasium's signature
        """Takes a step."""
        with reported(f"step of {self._name}", self._trial), limited(f"step of {self._name}", self._seconds):
            return self.env.step(action)


def make_watched(environment: trainer_pb2.Environment, seconds: float, trial: int = 0) -> Environment:
    """Makes an environment and watches it.

    Args:
        environment: The environment.
        seconds: How long it may take to be made, and each reset and step.
        trial: The number of the trial that plays it; 0 for a run's only one.

    Raises:
        EnvironmentHangsError: If it is not made in time.
        SteersmanError: If it cannot be made; see `make_environment`.
    """
    what = f"construction of {environment.id}"
    with reported(what, trial), limited(what, seconds):
        made = make_environment(environment)
    return WatchedEnvironment(made, environment.id, seconds, trial)


def what_went_wrong(trial: int = 0) -> str:
    """Gives what was last reported of a trial of this job, in one sentence; empty if nothing was.

    Args:
        trial: Its number; 0 for a run's only one.
    """
    found = internal_kv._internal_kv_get(_key(trial)) if ray.is_initialized() else None  # noqa: SLF001 - see `report`
    return found.decode() if found else ""


def report(trial: int, why: str) -> None:
    """Leaves a sentence where `what_went_wrong` finds it, from any process of the same job.

    Ray's own key-value store is what all of them have in common; it has no public name.

    Args:
        trial: The number of the trial that it is about; 0 for a run's only one.
        why: What went wrong there.
    """
    if ray.is_initialized():
        internal_kv._internal_kv_put(_key(trial), " ".join(why.split()).encode())  # noqa: SLF001


@contextlib.contextmanager
def reported(what: str, trial: int = 0) -> Iterator[None]:
    """Reports what is raised, and raises it on.

    Args:
        what: What is being done.
        trial: The number of the trial that does it.
    """
    try:
        yield
    except Exception as error:
        report(trial, str(error) if isinstance(error, SteersmanError) else f"the {what} raised {in_words(error)}")
        raise


def _key(trial: int) -> bytes:
    return f"steersman-failure-{ray.get_runtime_context().get_job_id()}-{trial}".encode()


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
