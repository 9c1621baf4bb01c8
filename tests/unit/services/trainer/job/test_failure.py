from __future__ import annotations

import errno

import pytest

from services.trainer.job.failure import explain
from steersman.errors import FailedPreconditionError


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/var/x"), "the disk is full"),
        (RuntimeError("worker: [Errno 28] No space left on device: '/x'"), "the disk is full"),
        (ValueError("first\n\nlast line \n"), "ValueError: last line"),
        (KeyError(), "KeyError"),
        (FailedPreconditionError("it has no rudder"), "it has no rudder"),
    ],
)
def test_one_sentence(error: Exception, sentence: str) -> None:
    explained = explain(error)
    assert explained.startswith(sentence)
    assert "\n" not in explained
