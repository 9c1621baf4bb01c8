"""The user's own code, packed: the same files give the same package, whatever became of the user's folder later."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from google.protobuf import json_format

from services.common.files import write_whole
from services.common.local_path import is_text, local_path
from steersman.errors import InvalidArgumentError
from steersman.quoting import quoted
from steersman.v1 import trainer_pb2

LARGEST_PACKAGE = 100 * 1024 * 1024
"""Bytes of a package; Ray's own limit for what is uploaded to its head."""

LARGEST_UNPACKED = 10 * LARGEST_PACKAGE
"""Bytes of a package's files."""

_LEFT_OUT = frozenset({".git", ".venv", "__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache"})
_OURS = ("services", "steersman")
_MSDOS_FOLDER = 0x10
_KEPT = ".code.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)


def pack_code(code: trainer_pb2.Code, folder: Path) -> trainer_pb2.Code:
    """Packs code.

    Args:
        code: As it was asked for.
        folder: Where packages are kept, under names that stand for their content.

    Returns:
        The same with the packages' paths, absolute, instead of those of folders and of `file:` URIs, and their digest.
        Other URIs stay.

    Raises:
        InvalidArgumentError: If there is no such folder, it is too large, or it would hide Steersman's own modules.
    """
    packed = trainer_pb2.Code()
    if code.working_dir:
        packed.working_dir = _packed(code.working_dir, folder, is_module=False)
    packed.py_modules.extend(_packed(path, folder, is_module=True) for path in code.py_modules)
    packed.sha256 = _digest(packed)
    _remember(packed, folder)
    return packed


def kept_code(sha256: str, folders: Iterable[Path]) -> trainer_pb2.Code | None:
    """Finds code that was packed before, by its digest; None if there is none.

    Args:
        sha256: The digest.
        folders: Where packages are kept; see `pack_code`.
    """
    for folder in folders:
        try:
            code = json_format.Parse((folder / f"{sha256}{_KEPT}").read_text(), trainer_pb2.Code())
        except (OSError, json_format.ParseError):
            continue
        packages = [path for path in (code.working_dir, *code.py_modules) if path]
        if all(Path(path).is_file() for path in packages):
            return code
    return None


def _digest(packed: trainer_pb2.Code) -> str:
    """Gives the digest of packages: of names and contents, since packing the same twice may give other bytes."""
    digest = hashlib.sha256()
    for kind, path in (("working_dir", packed.working_dir), *(("py_module", path) for path in packed.py_modules)):
        if not path:
            continue
        digest.update(f"{kind}\0".encode())
        if "://" in path:
            digest.update(f"{path}\0".encode())
            continue
        for name, content in _contents(path):
            digest.update(f"{name}\0{content}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _contents(package: str) -> list[tuple[str, str]]:
    """Gives the names of a package's files in order, and the SHA-256 of what is in each."""
    try:
        with zipfile.ZipFile(package) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            if sum(entry.file_size for entry in entries) > LARGEST_UNPACKED:
                raise InvalidArgumentError(
                    f"expected code of at most {LARGEST_UNPACKED // 2**20} MiB unpacked, got more in {quoted(package)}"
                )
            found = []
            for entry in sorted(entries, key=lambda each: each.filename):
                with archive.open(entry) as file:
                    content = hashlib.file_digest(file, "sha256")  # type: ignore[arg-type] # it is more than IO
                found.append((entry.filename, content.hexdigest()))
            return found
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise InvalidArgumentError(f"cannot unpack the code {quoted(package)}: {error}") from error


def _remember(packed: trainer_pb2.Code, folder: Path) -> None:
    """Leaves word of packages where `kept_code` finds it, whole or not at all.

    Not where something is to be fetched: what a URI names may have changed when it is looked for.
    """
    if any("://" in path for path in (packed.working_dir, *packed.py_modules)):
        return
    folder.mkdir(parents=True, exist_ok=True)
    text = json_format.MessageToJson(packed, preserving_proto_field_name=True)
    write_whole(folder / f"{packed.sha256}{_KEPT}", text.encode())


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
            if size > LARGEST_UNPACKED:
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
