from __future__ import annotations

import itertools

import pytest

from steersman.causes import deepest, in_words
from steersman.errors import InvalidArgumentError


def chained(*errors: Exception) -> Exception:
    """Raises each error from the next, and gives the first."""
    for error, cause in itertools.pairwise(errors):
        error.__cause__ = cause
    return errors[0]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("no\n such  map"), "ValueError: no such map"),
        (KeyError(), "KeyError"),
        (chained(RuntimeError(), TypeError(), ValueError("setting an array")), "ValueError: setting an array"),
        (chained(RuntimeError("no boat"), FileNotFoundError("x")), "RuntimeError: no boat (from FileNotFoundError: x)"),
        (InvalidArgumentError("it has no rudder"), "it has no rudder"),
    ],
)
def test_what_lies_behind_is_said(error: Exception, words: str) -> None:
    assert in_words(error) == words


def test_circles_end() -> None:
    first, second = ValueError("a"), ValueError("b")
    assert deepest(chained(first, second, first)) is second
