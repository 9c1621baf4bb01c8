"""The user's own code in the worker processes of an evaluation."""

from __future__ import annotations

import hashlib
import importlib
import os
import shutil
import sys
import urllib.request
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from urllib.parse import urlsplit

from services.common.code import LARGEST_PACKAGE, LARGEST_UNPACKED, pack_code
from services.common.files import write_whole
from steersman.errors import FailedPreconditionError, InvalidArgumentError
from steersman.quoting import quoted
from steersman.v1 import trainer_pb2

_FETCH_SECONDS = 60.0
_SCHEMES = ("http", "https")


@dataclass(frozen=True)
class LocalCode:
    """Code that is ready to be imported on this machine.

    Attributes:
        working_dir: The working folder, first on the Python path; empty for none.
        path: Folders for the Python path.
        sha256: Digest of the code; see `Code.sha256` in the protos. Empty for none.
    """

    working_dir: str = ""
    path: tuple[str, ...] = ()
    sha256: str = ""


def unpack_code(code: trainer_pb2.Code, folder: Path) -> LocalCode:
    """Makes a copy of code that later changes of the user's folder do not reach. This blocks.

    Args:
        code: Folders, .zip files, or URIs of such files.
        folder: Where packages and copies are kept, under names that stand for their content.

    Raises:
        InvalidArgumentError: If there is no such code, or it is too large.
    """
    folder = folder.absolute()
    packed = pack_code(code, folder)
    return LocalCode(
        _unpacked(packed.working_dir, folder) if packed.working_dir else "",
        tuple(_unpacked(package, folder) for package in packed.py_modules),
        packed.sha256,
    )


def enter(code: LocalCode, modules: Sequence[str] = ()) -> None:
    """Makes code importable in this process, a worker's, and imports what registers environments of one's own.

    Args:
        code: The user's own.
        modules: Names of modules, from this service's settings and never from a request.

    Raises:
        FailedPreconditionError: If a module cannot be imported.
    """
    sys.path[:0] = [folder for folder in (code.working_dir, *code.path) if folder]
    if code.working_dir:
        os.chdir(code.working_dir)
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:
            raise FailedPreconditionError(
                f"cannot import {module!r}, which is to register environments: {type(error).__name__}: {error}"
            ) from error


def _unpacked(package: str, folder: Path) -> str:
    path = _fetched(package, folder) if "://" in package else Path(package)
    target = path.with_suffix("")
    if not target.exists():
        unfinished = mkdtemp(dir=folder)
        try:
            with zipfile.ZipFile(path) as archive:
                if sum(entry.file_size for entry in archive.infolist()) > LARGEST_UNPACKED:
                    raise InvalidArgumentError(
                        f"expected code of at most {LARGEST_UNPACKED // 2**20} MiB unpacked, "
                        f"got more in {quoted(package)}"
                    )
                archive.extractall(unfinished)
            # Whole or not at all, and whoever comes second finds it.
            if not target.exists():
                Path(unfinished).replace(target)
        except OSError:
            if not target.exists():
                raise
        except (zipfile.BadZipFile, RuntimeError) as error:
            raise InvalidArgumentError(f"cannot unpack the code {quoted(package)}: {error}") from error
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return str(target)


def _fetched(uri: str, folder: Path) -> Path:
    """Fetches a package each time, since what a URI names may change."""
    try:
        scheme = urlsplit(uri).scheme
    except ValueError as error:
        raise InvalidArgumentError(f"expected the URI of code, got {quoted(uri)}: {error}") from error
    if scheme not in _SCHEMES:
        raise InvalidArgumentError(
            f"expected the URI of code to begin with file, {', '.join(_SCHEMES)}, got {quoted(uri)}"
        )
    try:
        with urllib.request.urlopen(uri, timeout=_FETCH_SECONDS) as response:  # noqa: S310 - checked above
            content: bytes = response.read(LARGEST_PACKAGE + 1)
    except (OSError, ValueError) as error:
        raise InvalidArgumentError(f"cannot fetch the code {quoted(uri)}: {error}") from error
    if len(content) > LARGEST_PACKAGE:
        raise InvalidArgumentError(
            f"expected code of at most {LARGEST_PACKAGE // 2**20} MiB packed, got more at {quoted(uri)}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    package = folder / f"{hashlib.sha256(content).hexdigest()[:32]}.zip"
    write_whole(package, content)
    return package
