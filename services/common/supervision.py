"""The one place where background tasks run: whatever goes wrong in one is logged, seen in health, and tried again.

A background task is a *step* that is done over and over: look at Ray Serve, read the database, expire requests. A step
waits by itself for when it is due. One that raises is repeated after a pause, so that no task ever ends before it is
cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from steersman.errors import SteersmanError

_log = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 5.0
_LONGEST_QUOTE = 300


@dataclass(frozen=True, slots=True)
class Problem:
    """What keeps a background task from its work.

    Attributes:
        reason: In words.
        next_try: When it tries again; seconds of `time.monotonic`.
    """

    reason: str
    next_try: float

    def __str__(self) -> str:
        return f"{self.reason}; next try in {max(0.0, self.next_try - time.monotonic()):.0f} s"


class Supervisor:
    """Keeps the background tasks of a process going.

    Args:
        on_change: Awaited whenever a task has begun to fail or has recovered.
    """

    def __init__(self, on_change: Callable[[], Awaitable[None]] | None = None) -> None:
        self._on_change = on_change
        self._problems: dict[str, Problem] = {}

    @property
    def problems(self) -> Mapping[str, Problem]:
        """What keeps tasks from their work, by task; those that do it are not among them."""
        return MappingProxyType(self._problems)

    async def repeat(self, name: str, step: Callable[[], Awaitable[None]], wake: asyncio.Event | None = None) -> None:
        """Does a step over and over until cancelled.

        A `SteersmanError` is logged when it begins, anything else each time and with its traceback.

        Args:
            name: The task, in `problems` and in the log.
            step: What to do. It waits for when it is due, before or after its work.
            wake: Ends the pause after a failure early when it is set.
        """
        failures = 0
        while True:
            try:
                await _once(step)
            except SteersmanError as error:
                failures += 1
                if name not in self._problems or self._problems[name].reason != str(error):
                    _log.warning("%s: %s", name, error)
                await self._fails(name, str(error), failures, wake)
            except Exception as error:  # noqa: BLE001 - a task that ends would be missed only when it is too late
                failures += 1
                _log.exception("%s failed unexpectedly, the %d. time in a row", name, failures)
                await self._fails(name, _in_words(name, error), failures, wake)
            else:
                failures = 0
                if self._problems.pop(name, None) is not None:
                    _log.info("%s works again", name)
                    await self._changed()

    async def _fails(self, name: str, reason: str, failures: int, wake: asyncio.Event | None) -> None:
        """Takes note of a failure and pauses."""
        pause = pause_seconds(failures)
        is_new = name not in self._problems
        self._problems[name] = Problem(reason, time.monotonic() + pause)
        if is_new:
            await self._changed()
        if wake is None:
            await asyncio.sleep(pause)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await wake.wait()

    async def _changed(self) -> None:
        if self._on_change is None:
            return
        try:
            await self._on_change()
        except Exception:  # noqa: BLE001 - whoever listens must not end what is supervised
            _log.exception("could not pass on that a background task fails or has recovered")


def pause_seconds(failures: int) -> float:
    """Gives how long to pause after so many failures in a row, at least one.

    It doubles up to a bound, and is drawn from its upper half, so that processes which fail together do not come back
    together.
    """
    longest: float = min(_FIRST_PAUSE_SECONDS * 2 ** min(failures - 1, 10), _LONGEST_PAUSE_SECONDS)
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - no secret


async def _once(step: Callable[[], Awaitable[None]]) -> None:
    """Does a step.

    Raises:
        asyncio.CancelledError: If this task is to end; not if something that the step waited for was cancelled.
    """
    try:
        await step()
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise RuntimeError("what it waited for was cancelled") from error


def _in_words(name: str, error: Exception) -> str:
    return f"{name} failed unexpectedly ({type(error).__name__}: {str(error)[:_LONGEST_QUOTE]}); the log says more"
