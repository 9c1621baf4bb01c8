"""Where the local stack keeps its files: all of them below `var_dir`, whatever characters its path has.

Unix sockets need short paths, and Ray builds command lines that break on spaces, quotes and other characters. Both get
`plain_folder`: `var_dir` itself where its path is short and plain, else a symbolic link to it that is.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import socket
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from steersman.errors import FailedPreconditionError
from steersman.settings import Settings

MARKER = ".steersman"
"""A file in a `var_dir` that was empty or not there when the stack was first started in it."""

_FOLDERS = ("supervisor", "logs", "mlflow", "ray", "tmp")
_KEPT_FOLDERS = frozenset(
    {*_FOLDERS, "bundles", "code", "datasets", "evaluations", "evaluator_code", "gateway", "loadtest", "runs"}
)
_KEPT_FILES = re.compile(r"steersman\.db.*|demo\.json|bench\.(json|html)|faults\.json")
# Ray opens its own folder to everyone, so it lies in one that is private.
_RAY = Path("ray", "run")
# A Unix socket's path has at most 107 bytes, and Ray's end in "/ray/run/session_<date>_<pid>/sockets/plasma_store".
_LONGEST_PLAIN = 107 - len(f"/{_RAY}") - 68
_PLAIN = re.compile(r"[A-Za-z0-9/._+-]+")
# Ray replaces it in the environment of jobs, and knows no way to write it otherwise.
_RAY_REPLACES = re.compile(r"\$\{[A-Z0-9_]+\}")


def absolute(settings: Settings) -> Settings:
    """Gives the same settings with absolute paths, for processes that run in another folder."""
    state_key = settings.state_key_path
    return settings.model_copy(
        update={
            "var_dir": settings.var_dir.resolve(),
            "ray_token_path": settings.ray_token_file.resolve(),
            "state_key_path": state_key and state_key.resolve(),
        }
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
        FailedPreconditionError: If there is no folder for a short and plain link.
    """
    return plain_folder(settings) / "supervisor" / "supervisor.sock"


def ray_folder(settings: Settings) -> Path:
    """Ray's session files, sockets and logs.

    Raises:
        FailedPreconditionError: If there is no folder for a short and plain link.
    """
    return plain_folder(settings) / _RAY


def temporary_folder(settings: Settings) -> Path:
    """Where the programs put temporary files, some of which are sockets; emptied before a start and after a stop.

    Raises:
        FailedPreconditionError: If there is no folder for a short and plain link.
    """
    return plain_folder(settings) / "tmp"


def plain_folder(settings: Settings) -> Path:
    """Gives a path to `var_dir` that is short enough for sockets and has no special characters.

    Args:
        settings: The stack's settings, with absolute paths.

    Raises:
        FailedPreconditionError: If there is no folder for a short and plain link.
    """
    if _is_plain(settings.var_dir):
        return settings.var_dir
    return _link_folder(settings) / "var"


def ray_python(settings: Settings) -> str:
    """Gives the path of this Python under which Ray can start workers: shells read it, and Ray does not quote it.

    Args:
        settings: The stack's settings, with absolute paths.

    Raises:
        FailedPreconditionError: If there is no folder for a plain link.
    """
    if _PLAIN.fullmatch(sys.executable):
        return sys.executable
    return str(_link_folder(settings) / "python" / Path(sys.executable).relative_to(sys.prefix))


def make_folders(settings: Settings) -> None:
    """Makes the folders that the stack needs, for this user alone.

    Args:
        settings: The stack's settings, with absolute paths.

    Raises:
        FailedPreconditionError: If `var_dir` cannot be used; it says why and names the setting.
    """
    var_dir = settings.var_dir
    if found := _RAY_REPLACES.search(str(var_dir)):
        raise FailedPreconditionError(
            f"expected a folder without {found[0]}, which Ray replaces, in its path, got {var_dir}; set "
            "STEERSMAN_VAR_DIR to another folder"
        )
    with usable(settings):
        is_new = not var_dir.exists() or not any(var_dir.iterdir())
        var_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (var_dir / name for name in _FOLDERS):
            folder.mkdir(exist_ok=True)
            # Whoever made `var_dir` may have let others into it.
            folder.chmod(0o700)
        (var_dir / _RAY).mkdir(exist_ok=True)
        if is_new:
            (var_dir / MARKER).touch()


def make_links(settings: Settings) -> None:
    """Makes the links that the stack needs, to be called with its lock held.

    Args:
        settings: The stack's settings, with absolute paths.

    Raises:
        FailedPreconditionError: If there can be none, or no sockets in `var_dir`.
    """
    with usable(settings):
        for link, target in _links(settings).items():
            _make_private(link.parent)
            if not (link.is_symlink() and link.readlink() == target):
                link.unlink(missing_ok=True)
                link.symlink_to(target)
    check_sockets(supervisor_socket(settings).parent)


def empty_temporary_folder(settings: Settings) -> None:
    """Deletes what programs that have ended left behind.

    Args:
        settings: The stack's settings, with absolute paths.
    """
    with contextlib.suppress(OSError):
        for left in (settings.var_dir / "tmp").iterdir():
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink()


def delete(settings: Settings) -> None:
    """Deletes what Steersman keeps in `var_dir`, and the folder itself if nothing else is in it.

    Nothing is deleted in a folder that had other files in it when the stack was first started there.

    Args:
        settings: The settings of a stack that is stopped, with absolute paths.

    Raises:
        FailedPreconditionError: If something cannot be deleted.
    """
    var_dir = settings.var_dir
    if not (var_dir / MARKER).exists():
        return
    with usable(settings):
        for kept in var_dir.iterdir():
            if kept.is_dir() and not kept.is_symlink() and kept.name in _KEPT_FOLDERS:
                shutil.rmtree(kept)
            elif kept.is_file() and _KEPT_FILES.fullmatch(kept.name):
                kept.unlink()
        if {each.name for each in var_dir.iterdir()} == {MARKER}:
            shutil.rmtree(var_dir)


def remove_links(settings: Settings) -> None:
    """Removes the links that `make_links` made.

    Args:
        settings: The stack's settings, with absolute paths.
    """
    with contextlib.suppress(OSError, FailedPreconditionError):
        folder = _link_folder(settings)
        # Those of a start by another Python, too.
        for name in ("var", "python"):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()


@contextlib.contextmanager
def usable(settings: Settings) -> Iterator[None]:
    """Says in a sentence why `var_dir` cannot be used, if that is what a block fails with.

    Raises:
        FailedPreconditionError: If the block raises an OSError.
    """
    try:
        yield
    except OSError as error:
        where = error.filename or settings.var_dir
        raise FailedPreconditionError(
            f"expected a folder that can be written to, but the system says {error.strerror!r} of {where}; "
            f"set STEERSMAN_VAR_DIR, now {settings.var_dir}, to another folder"
        ) from error


def check_sockets(folder: Path) -> None:
    """Checks that a file system has Unix sockets and hard links, which not every one has.

    Args:
        folder: An empty name in it is used for a moment.

    Raises:
        FailedPreconditionError: If it has not.
    """
    made, linked = (folder / f".probe-{os.getpid()}-{name}" for name in ("made", "linked"))
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.bind(str(made))
            # As supervisor does, again and again where there are no hard links.
            linked.hardlink_to(made)
    except OSError as error:
        raise FailedPreconditionError(
            f"expected a file system with Unix sockets and hard links, but the system says {error.strerror or error!r} "
            f"of {folder}; set STEERSMAN_VAR_DIR to a folder on a local disk"
        ) from error
    finally:
        for path in (made, linked):
            with contextlib.suppress(OSError):
                path.unlink()


def _links(settings: Settings) -> dict[Path, Path]:
    """Gives the links that these settings need, and what they lead to."""
    links = {}
    if not _is_plain(settings.var_dir):
        links[_link_folder(settings) / "var"] = settings.var_dir
    if not _PLAIN.fullmatch(sys.executable):
        links[_link_folder(settings) / "python"] = Path(sys.prefix)
    return links


def _link_folder(settings: Settings) -> Path:
    """Gives the folder of this stack's links: the same for the same `var_dir`, from wherever it is asked for."""
    digest = hashlib.sha256(os.fsencode(settings.var_dir)).hexdigest()[:8]
    for temporary in ("/tmp", tempfile.gettempdir()):  # noqa: S108 - made private, and refused if it is not
        folder = Path(temporary) / f"sm-{os.getuid()}-{digest}"
        if os.access(temporary, os.W_OK | os.X_OK) and _is_plain(folder / "var"):
            return folder
    raise FailedPreconditionError(
        f"expected a folder whose path has at most {_LONGEST_PLAIN} bytes and only ASCII letters, digits and /._+- "
        f"in it, but {settings.var_dir} is another, and there is no temporary folder for a link to it; set "
        "STEERSMAN_VAR_DIR"
    )


def _is_plain(path: Path) -> bool:
    return len(os.fsencode(path)) <= _LONGEST_PLAIN and _PLAIN.fullmatch(str(path)) is not None


def _make_private(folder: Path) -> None:
    """Makes a folder that only this user can enter, and refuses one that somebody else made."""
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise FailedPreconditionError(f"expected {folder} to be a folder of this user alone, with mode 0700; it is not")
