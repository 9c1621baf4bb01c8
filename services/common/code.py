"""The user's own code, packed: the same files give the same package, whatever became of the user's folder later."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path

from services.common.files import write_whole
from services.common.local_path import is_text, local_path
from steersman.errors import InvalidArgumentError
from steersman.quoting import quoted
from steersman.v1 import trainer_pb2

LARGEST_PACKAGE = 100 * 1024 * 1024
"""Bytes of a package; Ray's own limit for what is uploaded to its head."""

_LEFT_OUT = frozenset({".git", ".venv", "__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache"})
_OURS = ("services", "steersman")
_MSDOS_FOLDER = 0x10
_EPOCH = (1980, 1, 1, 0, 0, 0)


def pack_code(code: trainer_pb2.Code, folder: Path) -> trainer_pb2.Code:
    """Packs code.

    Args:
        code: As it was asked for.
        folder: Where packages are kept, under names that stand for their content.

    Returns:
        The same with the packages' paths, absolute, instead of those of folders and of `file:` URIs. Other URIs stay.

    Raises:
        InvalidArgumentError: If there is no such folder, it is too large, or it would hide Steersman's own modules.
    """
    packed = trainer_pb2.Code()
    if code.working_dir:
        packed.working_dir = _packed(code.working_dir, folder, is_module=False)
    packed.py_modules.extend(_packed(path, folder, is_module=True) for path in code.py_modules)
    return packed


def _packed(given: str, folder: Path, *, is_module: bool) -> str:
    source = local_path(given)
    if source is None:
        return given
    if source.is_dir():
        try:
            content = _zipped(source, source.parent if is_module else source)
        except OSError as error:
            raise InvalidArgumentError(f"cannot read the folder {quoted(given)}: {error}") from error
        hidden = _OURS if not is_module else ()
        if found := [name for name in hidden if (source / name).exists()]:
            raise InvalidArgumentError(
                f"expected a working folder that does not hide Steersman's own modules, got {quoted(given)} with "
                f"{found[0]!r} in it"
            )
    elif zipfile.is_zipfile(source):
        content = source.read_bytes()
    else:
        raise InvalidArgumentError(
            f"expected a folder or a .zip file on the service's machine, or a URI, got {quoted(given)}"
        )
    if len(content) > LARGEST_PACKAGE:
        raise InvalidArgumentError(
            f"expected code of at most {LARGEST_PACKAGE // 2**20} MiB packed, got {len(content) / 2**20:.0f} MiB of "
            f"{quoted(given)}"
        )
    package = folder / f"{hashlib.sha256(content).hexdigest()[:32]}.zip"
    folder.mkdir(parents=True, exist_ok=True)
    if not package.exists():
        write_whole(package, content)
    return str(package)


def _zipped(folder: Path, root: Path) -> bytes:
    """Packs a folder so that the same files give the same bytes.

    Args:
        folder: The folder.
        root: What the names in the package are relative to.
    """
    buffer = io.BytesIO()
    size = 0
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(_walked(folder)):
            name = path.relative_to(root)
            if not is_text(name):
                raise InvalidArgumentError(f"expected a folder of code with names in UTF-8, got {bytes(name)!r} in it")
            if path.is_dir():
                # One that is empty: code may count on it.
                archive.writestr(_entry(f"{name.as_posix()}/", path), b"")
                continue
            size += path.stat().st_size
            if size > 10 * LARGEST_PACKAGE:
                raise InvalidArgumentError(f"expected a folder of code, got {str(folder)!r} with over 1000 MiB in it")
            archive.writestr(_entry(name.as_posix(), path), path.read_bytes())
    return buffer.getvalue()


def _walked(folder: Path, around: frozenset[str] = frozenset()) -> Iterator[Path]:
    """Gives the files and the empty folders in a folder, also behind links, as Python finds them there.

    Links to nothing are left out, and what is neither a folder nor a file; and so are links that lead back to a folder
    around them, which would never end.

    Args:
        folder: The folder.
        around: The real paths of the folders around it.
    """
    around |= {os.path.realpath(folder)}
    is_empty = True
    for path in folder.iterdir():
        if path.name in _LEFT_OUT:
            continue
        is_empty = False
        if path.is_file():
            yield path
        elif path.is_dir() and os.path.realpath(path) not in around:
            yield from _walked(path, around)
    if is_empty and len(around) > 1:
        yield folder


def _entry(name: str, path: Path) -> zipfile.ZipInfo:
    """Describes a file or a folder of a package, by what does not change from one packing to the next."""
    information = zipfile.ZipInfo(name, _EPOCH)
    information.compress_type = zipfile.ZIP_DEFLATED
    information.external_attr = (path.stat().st_mode & 0o777) << 16
    if name.endswith("/"):
        information.external_attr |= stat.S_IFDIR << 16 | _MSDOS_FOLDER
    return information
