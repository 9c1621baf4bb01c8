"""A file system for Tune whose files are written whole.

Tune writes the state of an experiment, which it needs to go on, over what it had written before. A process that is
killed half-way through that would leave a run which nobody can resume.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow.fs
from fsspec.implementations.local import LocalFileSystem

from services.common.files import WholeFile


class _WholeFiles(LocalFileSystem):  # type: ignore[misc] # fsspec has no types
    """This machine's files, as fsspec has them."""

    def _open(self, path: str, mode: str = "rb", **_: Any) -> BinaryIO:  # noqa: ANN401 - fsspec's signature
        name = self._strip_protocol(path)
        if "w" not in mode:
            return open(name, mode)  # type: ignore[return-value] # noqa: PTH123 - fsspec closes it
        os.makedirs(os.path.dirname(name), exist_ok=True)  # noqa: PTH103, PTH120
        return WholeFile(Path(name))


def whole_files() -> pyarrow.fs.FileSystem:
    """Gives the file system, as Arrow and Tune have them."""
    return pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(_WholeFiles(auto_mkdir=True)))
