"""Files: reading ones that may be anything (a link to elsewhere, a pipe that never ends), and writing whole ones."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path

from steersman.errors import InvalidArgumentError


def read_bounded(path: Path, limit: int, *, inside: Path | None = None) -> bytes:
    """Reads a regular file without ever waiting for it.

    Args:
        path: The file.
        limit: The most bytes that it may have.
        inside: A folder that it must lie in, also after links were followed; None for anywhere.

    Raises:
        InvalidArgumentError: If it cannot be read, is no regular file, is too large, or lies elsewhere.
    """
    try:
        real = path.resolve(strict=True)
        if inside is not None and not real.is_relative_to(inside.resolve()):
            raise InvalidArgumentError(f"expected {path} inside of {inside}, got a link to {real}")
        # Without blocking, since opening a pipe would wait for somebody to write into it.
        with os.fdopen(os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise InvalidArgumentError(f"expected {path} to be a regular file")
            if status.st_size > limit:
                raise InvalidArgumentError(f"expected at most {limit} bytes in {path}, got {status.st_size}")
            # One more than there should be, in case it grows meanwhile.
            content = file.read(limit + 1)
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidArgumentError(f"cannot read {path}: {reason}") from error
    if len(content) > limit:
        raise InvalidArgumentError(f"expected at most {limit} bytes in {path}, got more")
    return content


def write_whole(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Writes a file so that whoever reads it, also after this process was killed, finds all of it or what was before.

    Args:
        path: The file; its folder exists.
        content: What it is to hold.
        mode: Its permissions.

    Raises:
        OSError: If it cannot be written; then nothing is left behind.
    """
    number, unfinished = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(number, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        Path(unfinished).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(unfinished).unlink()
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Has the names of a folder written too, where its file system can do that."""
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
