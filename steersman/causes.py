"""What lies behind an error, in words."""

from __future__ import annotations

from steersman.errors import SteersmanError


def deepest(error: BaseException) -> BaseException:
    """Gives what an error was raised from in the end: itself, if from nothing."""
    seen = {id(error)}
    while error.__cause__ is not None and id(error.__cause__) not in seen:
        error = error.__cause__
        seen.add(id(error))
    return error


def in_words(error: BaseException) -> str:
    """Describes an error in one line, with what it was raised from: libraries raise empty errors from telling ones.

    Returns:
        Such as "ValueError: no such map" or "RuntimeError: no boat (from FileNotFoundError: maps/small.json)".
    """
    cause = deepest(error)
    if cause is error:
        return _one(error)
    return f"{_one(error)} (from {_one(cause)})" if str(error).strip() else _one(cause)


def _one(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, SteersmanError):
        # Written to be read.
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
