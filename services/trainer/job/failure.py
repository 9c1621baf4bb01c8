"""Why a run failed, in one sentence."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import ray
from ray.tune import TuneError

from services.trainer.environments.watched_environment import what_went_wrong
from steersman.errors import SteersmanError

_LEAST_ROOM = 2**20
"""Bytes without which no checkpoint can be written."""


def explain(error: BaseException, folder: Path | None = None, trial: int = 0) -> str:
    """Says in one sentence why a run failed.

    Args:
        error: What was raised, perhaps in another process.
        folder: Where the run leaves its things.
        trial: The number of the trial that failed, of a sweep: another one may have failed for another reason.
    """
    # Ray wraps what a process raised, and Tune what a callback did; the innermost cause is what happened.
    while (cause := _cause(error)) is not None:
        error = cause
    if told := what_went_wrong(trial):
        return told
    # On a full disk Ray cannot even keep the error: what is raised then is something else.
    if is_disk_full(error) or (folder is not None and _has_no_room(folder)):
        return "the disk is full: make room, then resume the run from its last checkpoint"
    if isinstance(error, SteersmanError):
        # Written to be read.
        return " ".join(str(error).split())
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1].strip()}" if lines else type(error).__name__


def _cause(error: BaseException) -> BaseException | None:
    if isinstance(error, ray.exceptions.RayTaskError):
        cause: BaseException | None = error.cause
        return cause
    return error.__cause__ if isinstance(error, TuneError) else None


def is_disk_full(error: BaseException) -> bool:
    """Tells whether there was no room left; also where only the words of the error have survived."""
    return (isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}) or (
        "No space left on device" in str(error)
    )


def _has_no_room(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < _LEAST_ROOM
    except OSError:
        return False
