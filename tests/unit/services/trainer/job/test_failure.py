from __future__ import annotations

import errno
import pickle
import traceback

import pytest
from ray.exceptions import RayTaskError

from services.trainer.job.failure import explain
from steersman.errors import FailedPreconditionError


def raised_from(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def raised_elsewhere(error: Exception, cause: Exception) -> Exception:
    """Gives what Ray makes of an error that another process has raised: its cause is there in words only."""
    words = "".join(traceback.format_exception(raised_from(error, cause)))
    found = RayTaskError("sample", words, pickle.loads(pickle.dumps(error)))  # noqa: S301 - ours
    # As whoever asks for the result gets it.
    raised: Exception = found.as_instanceof_cause()
    return raised


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/var/x"), "the disk is full"),
        (RuntimeError("worker: [Errno 28] No space left on device: '/x'"), "the disk is full"),
        (ValueError("first\n\nlast line \n"), "ValueError: last line"),
        (KeyError(), "KeyError"),
        (FailedPreconditionError("it has no rudder"), "it has no rudder"),
        (raised_from(RuntimeError(), ValueError("only 0-dimensional arrays")), "ValueError: only 0-dimensional arrays"),
        (raised_from(ValueError("no map"), KeyError("maps/7")), "ValueError: no map (from KeyError: 'maps/7')"),
        (raised_elsewhere(RuntimeError(), ValueError("setting an array element")), "ValueError: setting an array"),
        (raised_elsewhere(RuntimeError("all is lost"), ValueError("x")), "RuntimeError: all is lost"),
    ],
)
def test_one_sentence(error: Exception, sentence: str) -> None:
    explained = explain(error)
    assert explained.startswith(sentence)
    assert "\n" not in explained
