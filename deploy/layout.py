"""Where the local stack keeps its files."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from pathlib import Path

from steersman.errors import FailedPreconditionError
from steersman.settings import Settings

# A Unix socket's path has at most 107 bytes, and Ray's end in "/session_<date>_<pid>/sockets/plasma_store".
_LONGEST_SOCKET_PATH = 107
_LONGEST_RAY_SUFFIX = 68


def absolute(settings: Settings) -> Settings:
    """Gives the same settings with absolute paths, for processes that run in another folder."""
    return settings.model_copy(
        update={"var_dir": settings.var_dir.resolve(), "ray_token_path": settings.ray_token_file.resolve()}
    )


def configuration_file(settings: Settings) -> Path:
    """Supervisor's configuration, as the last start wrote it."""
    return settings.var_dir / "supervisor" / "supervisord.conf"


def lock_file(settings: Settings) -> Path:
    """Held while the stack is being started or stopped, so that two terminals do not do it at once."""
    return settings.var_dir / "supervisor" / "lock"


def log_file(settings: Settings, program: str) -> Path:
    """What a program writes to standard output and standard error."""
    return settings.var_dir / "logs" / f"{program}.log"


def supervisor_socket(settings: Settings) -> Path:
    """The Unix socket on which supervisor takes orders.

    Raises:
        FailedPreconditionError: If there is no private folder with a path that is short enough.
    """
    return (
        _short_folder(settings, "supervisor", _LONGEST_SOCKET_PATH - len("/supervisor.sock.12345678"))
        / "supervisor.sock"
    )


def ray_folder(settings: Settings) -> Path:
    """Ray's session files, sockets and logs.

    Raises:
        FailedPreconditionError: If there is no private folder with a path that is short enough.
    """
    return _short_folder(settings, "ray", _LONGEST_SOCKET_PATH - _LONGEST_RAY_SUFFIX)


def _short_folder(settings: Settings, name: str, longest: int) -> Path:
    """Makes a folder in `var_dir`, or, where its path would be too long for sockets, in a private temporary one."""
    folder = settings.var_dir / name
    if len(os.fsencode(folder)) <= longest:
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    digest = hashlib.sha256(os.fsencode(settings.var_dir)).hexdigest()[:8]
    for temporary in (tempfile.gettempdir(), "/tmp"):  # noqa: S108 - made private below, and refused if it is not
        private = Path(temporary) / f"sm-{os.getuid()}-{digest}"
        if len(os.fsencode(private / name)) <= longest:
            _make_private(private)
            (private / name).mkdir(exist_ok=True)
            return private / name
    raise FailedPreconditionError(
        f"expected a folder whose path has at most {longest} bytes, as Unix sockets need, but {folder} is longer and "
        "so is the temporary folder; set STEERSMAN_VAR_DIR to a shorter path"
    )


def _make_private(folder: Path) -> None:
    """Makes a folder that only this user can enter, and refuses one that somebody else made."""
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise FailedPreconditionError(f"expected {folder} to be a folder of this user alone, with mode 0700; it is not")
