"""What a test session leaves behind: processes that it started and did not end.

Every process that is started during a session inherits a mark in its environment, the session's folder. At the end of
the session none with that mark may be left; one that is gets named, together with the test during which it was started,
and ended.
"""

from __future__ import annotations

import os
from pathlib import Path

import psutil

from deploy import processes

FOLDER_VARIABLE = "TEST_SESSION_FOLDER"
"""Environment variable with the folder of a test session, which also marks the processes that the session started."""

_GRACE_SECONDS = 10.0


def end_leftovers(folder: Path) -> list[str]:
    """Ends the processes that a session left, and describes them.

    Those that are about to end get a moment for it and are not described.

    Args:
        folder: The session's folder.
    """
    found = processes.marked(FOLDER_VARIABLE, str(folder))
    left = processes.wait([process for process in found if not _ends_with_this_one(process)], _GRACE_SECONDS)
    described = sorted(_describe(process) for process in left)
    processes.end(left, _GRACE_SECONDS)
    return described


def _ends_with_this_one(process: psutil.Process) -> bool:
    """Tells whether this is a process with which `multiprocessing` helps this one, until this one ends."""
    try:
        return process.ppid() == os.getpid() and any("from multiprocessing." in word for word in process.cmdline())
    except psutil.Error:
        return False


def _describe(process: psutil.Process) -> str:
    """Names a process: its command line, and the test during which it was started."""
    try:
        command = " ".join(process.cmdline()) or process.name()
        # pytest sets it before each test, so children have the one of their start.
        test = process.environ().get("PYTEST_CURRENT_TEST", "an unknown test")
    except (psutil.Error, OSError):
        return f"process {process.pid}"
    return f"process {process.pid}, started during {test}: {command}"


def mark_from_now_on(folder: Path) -> None:
    """Marks the processes that this one will start.

    Args:
        folder: The session's folder.
    """
    os.environ[FOLDER_VARIABLE] = str(folder)
