"""Why a run failed, in one sentence."""

from __future__ import annotations

import errno
import re
import shutil
from pathlib import Path

import ray
from ray.tune import TuneError

from services.trainer.environments.watched_environment import what_went_wrong
from steersman.causes import in_words
from steersman.errors import SteersmanError

_LEAST_ROOM = 2**20
"""Bytes without which no checkpoint can be written."""

_BEHIND = "The above exception was the direct cause of the following exception"
_RAISED = re.compile(r"([A-Za-z_][\w.]*): (\S.*)")
"""The last line of a traceback that says something."""


def explain(error: BaseException, folder: Path | None = None, trial: int = 0) -> str:
    """Says in one sentence why a run failed.

    Args:
        error: What was raised, perhaps in another process.
        folder: Where the run leaves its things.
        trial: The number of the trial that failed, of a sweep: another one may have failed for another reason.
    """
    # Ray wraps what a process raised, and Tune what a callback did; the innermost cause is what happened.
    texts = []
    while (cause := _cause(error)) is not None:
        # Of these the text is the traceback.
        texts += [str(error)] if isinstance(error, ray.exceptions.RayTaskError) else []
        error = cause
    if told := what_went_wrong(trial):
        return told
    # On a full disk Ray cannot even keep the error: what is raised then is something else.
    if is_disk_full(error) or (folder is not None and _has_no_room(folder)):
        return "the disk is full: make room, then resume the run from its last checkpoint"
    if isinstance(error, SteersmanError):
        # Written to be read.
        return " ".join(str(error).split())
    if not str(error).strip():
        # What it was raised from does not travel between processes, except in words.
        return next(filter(None, map(_cause_in, reversed(texts))), type(error).__name__)
    return _last_line(error)


def _cause(error: BaseException) -> BaseException | None:
    if isinstance(error, ray.exceptions.RayTaskError):
        cause: BaseException | None = error.cause
        return cause
    # An error that says something is not replaced by what it was raised from, unless it is a wrapping.
    is_wrapping = isinstance(error, TuneError) or not str(error).strip()
    return error.__cause__ if is_wrapping else None


def _last_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    behind = in_words(error.__cause__) if error.__cause__ is not None else ""
    return f"{type(error).__name__}: {lines[-1].strip()}" + (f" (from {behind})" if behind else "")


def _cause_in(traceback: str) -> str:
    """Reads what an error was raised from in the end out of a traceback; empty if it does not say."""
    first, separator, _ = traceback.partition(_BEHIND)
    lines = first.splitlines() if separator else []
    found = next(filter(None, (_RAISED.fullmatch(line.strip()) for line in reversed(lines))), None)
    return f"{found[1].rpartition('.')[2]}: {found[2]}" if found else ""


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
