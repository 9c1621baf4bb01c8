"""How errors quote what others sent: escaped and shortened, since it may be anything, and of any length."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

_LONGEST = 100
_MOST_NAMES = 20
_MOST_AXES = 16


def quoted(value: object) -> str:
    """Quotes a value that a client sent.

    Args:
        value: A text, or anything whose `repr` is short.

    Returns:
        Its `repr`, in which control characters are escaped; of a long text the beginning, and how long it is.
    """
    if isinstance(value, (str, bytes)) and len(value) > _LONGEST:
        unit = "characters" if isinstance(value, str) else "bytes"
        return f"{value[:_LONGEST]!r}... ({len(value)} {unit})"
    return repr(value)


def quoted_names(names: Iterable[str]) -> str:
    """Quotes names that a client sent: a list of the first of them.

    Args:
        names: Any number of them, in the order in which they are to be listed.
    """
    rest = iter(names)
    listed = [quoted(name) for name in islice(rest, _MOST_NAMES)]
    left_out = sum(1 for _ in rest)
    if left_out:
        listed.append(f"and {left_out} more")
    return "[" + ", ".join(listed) + "]"


def quoted_shape(shape: Sequence[int]) -> str:
    """Quotes the shape of a tensor that a client sent: all of its axes, or the first of very many."""
    if len(shape) <= _MOST_AXES:
        return str(list(shape))
    return str(list(shape[:_MOST_AXES])).replace("]", f", and {len(shape) - _MOST_AXES} more]")
