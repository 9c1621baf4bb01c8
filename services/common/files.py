"""Files: reading ones that may be anything (a link to elsewhere, a pipe that never ends), and writing whole ones."""

from __future__ import annotations

import contextlib
import io
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
    file = WholeFile(path, mode=mode)
    try:
        file.write(content)
        file.close()
    finally:
        file.discard()


class WholeFile(io.BufferedWriter):
    """A file that is written, which is there once it is closed, and until then is what it was before.

    Args:
        path: The file; its folder exists.
        mode: Its permissions.

    Raises:
        OSError: If it cannot be written.
    """

    def __init__(self, path: Path, *, mode: int = 0o644) -> None:
        number, unfinished = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        super().__init__(io.FileIO(number, "wb"))
        self._path, self._unfinished, self._mode = path, Path(unfinished), mode

    def close(self) -> None:
        """Puts it in its place; does nothing if it was closed or discarded before.

        Raises:
            OSError: If it cannot be written.
        """
        if self.closed:
            return
        self.flush()
        os.fchmod(self.fileno(), self._mode)
        os.fsync(self.fileno())
        super().close()
        self._unfinished.replace(self._path)
        _sync_folder(self._path.parent)

    def discard(self) -> None:
        """Leaves what was there before; does nothing if it was closed."""
        if not self.closed:
            self.raw.close()
        with contextlib.suppress(OSError):
            self._unfinished.unlink()

    def __del__(self) -> None:
        """Is no reason to take for whole what nobody has closed."""
        self.discard()


def _sync_folder(folder: Path) -> None:
    """Has the names of a folder written too, where its file system can do that."""
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
