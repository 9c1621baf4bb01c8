"""Paths that may be given as URIs: `/a b`, `file:///a%20b` and `file:///a b` are the same file."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

from steersman.errors import InvalidArgumentError
from steersman.quoting import quoted

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):/")
_LONGEST_PATH = 4095
_LONGEST_NAME = 255
"""Bytes of a path, and of each name in it, on Linux."""

_FILE = re.compile(r"file:(?://(?:localhost)?(?=/))?", re.IGNORECASE)


def local_path(given: str) -> Path | None:
    """Gives the path that a path or a `file:` URI names.

    A `file:` URI is percent-encoded by the standard, but many are made by putting `file://` before a path. The standard
    rules, unless only the path as it is written exists.

    Args:
        given: A path, or a URI.

    Returns:
        The path; None if it is a URI of another scheme, or of another machine.

    Raises:
        InvalidArgumentError: If no file system could have such a path.
    """
    if "\0" in given or len(given.encode(errors="surrogateescape")) > _LONGEST_PATH:
        raise InvalidArgumentError(
            f"expected a path of at most {_LONGEST_PATH} bytes, none of them zero, got {quoted(given)}"
        )
    written = _FILE.sub("", given, count=1)
    if written == given:
        return None if _SCHEME.match(given) else _possible(given)
    if not written.startswith("/") or written.startswith("//"):
        return None
    # Percent-encoding makes names longer than those that it stands for.
    decoded = _possible(unquote(written))
    return Path(written) if not decoded.exists() and _can_be(written) and Path(written).exists() else decoded


def _possible(path: str) -> Path:
    if not _can_be(path):
        raise InvalidArgumentError(f"expected a path with names of at most {_LONGEST_NAME} bytes, got {quoted(path)}")
    return Path(path)


def _can_be(path: str) -> bool:
    return all(len(name.encode(errors="surrogateescape")) <= _LONGEST_NAME for name in path.split("/"))


def is_text(path: Path) -> bool:
    """Tells whether a path can be written into archives, databases and messages, all of which hold UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True
