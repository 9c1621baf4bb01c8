"""The processes of a stack, wherever they are: found by what they inherited, and ended."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable

import psutil

from deploy.programs import STACK_VARIABLE
from steersman.settings import Settings


def members(settings: Settings) -> set[psutil.Process]:
    """Finds every process that belongs to the stack.

    Args:
        settings: The stack's settings, with absolute paths.
    """
    return marked(STACK_VARIABLE, str(settings.var_dir))


def marked(variable: str, value: str) -> set[psutil.Process]:
    """Finds every process that was started with a mark in its environment, and those that it started.

    A process that renames itself may overwrite its environment (Ray's do). So a process is found too if it is in the
    session or among the descendants of one that has the mark. This process, its ancestors and, unless they have the
    mark themselves, the others of its session are not.

    Args:
        variable: The environment variable that is the mark.
        value: Its value.
    """
    found = {process for process in psutil.process_iter() if _value(process, variable) == value}
    sessions = {_session(process) for process in found} - {None, os.getsid(0)}
    found |= {process for process in psutil.process_iter() if _session(process) in sessions}
    for process in list(found):
        found |= descendants(process)
    return found - _own_line()


def descendants(process: psutil.Process) -> set[psutil.Process]:
    """Gives the children of a process, their children, and so on."""
    try:
        return set(process.children(recursive=True))
    except psutil.NoSuchProcess:
        return set()


def end(processes: Iterable[psutil.Process], grace_seconds: float) -> None:
    """Ends processes: asks first, and kills those that still run after the grace period.

    Args:
        processes: Which; those that have ended already are fine.
        grace_seconds: How long they have to end by themselves.
    """
    left = [process for process in processes if is_alive(process)]
    for process in left:
        _signal(process.terminate)
    left = wait(left, grace_seconds)
    for process in left:
        _signal(process.kill)
    wait(left, grace_seconds)


def wait(processes: Iterable[psutil.Process], timeout_seconds: float) -> list[psutil.Process]:
    """Waits for processes to end.

    Args:
        processes: Which.
        timeout_seconds: How long to wait.

    Returns:
        Those that still run.
    """
    deadline = time.monotonic() + timeout_seconds
    left = list(processes)
    while left := [process for process in left if is_alive(process)]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    return left


def is_alive(process: psutil.Process) -> bool:
    """Tells whether a process runs; one that has ended but that nobody has asked about yet (a zombie) does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def memory_bytes(pid: int) -> int:
    """Sums the resident memory of a process and its descendants; memory that they share counts for each."""
    try:
        process = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return 0
    return sum(_resident(each) for each in {process} | descendants(process))


def _resident(process: psutil.Process) -> int:
    """Gives one process's resident memory."""
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def _value(process: psutil.Process, variable: str) -> str | None:
    """Gives a variable of a process's environment, if it can be read."""
    try:
        return process.environ().get(variable)
    except (psutil.Error, OSError):
        return None


def _session(process: psutil.Process) -> int | None:
    """Gives a process's session."""
    try:
        return os.getsid(process.pid)
    except OSError:
        return None


def _own_line() -> set[psutil.Process]:
    """Gives this process and its ancestors, which are never ended from here."""
    own = psutil.Process()
    return {own, *own.parents()}


def _signal(send: Callable[[], None]) -> None:
    """Sends a signal to a process that may just have ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        send()
