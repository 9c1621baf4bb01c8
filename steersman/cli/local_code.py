"""Code of the user's own that a command needs itself, on the user's machine."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from steersman.errors import InvalidArgumentError
from steersman.quoting import quoted


def enter_code(working_dir: str, py_modules: Sequence[str]) -> None:
    """Makes code of the user's own importable, as it is for a run.

    Args:
        working_dir: A folder; empty for none.
        py_modules: Folders of packages.

    Raises:
        InvalidArgumentError: If one of them is no folder.
    """
    for folder in (working_dir, *py_modules):
        if folder and not Path(folder).is_dir():
            raise InvalidArgumentError(f"expected a folder with code on this machine, got {quoted(folder)}")
    folders = [Path(working_dir).absolute()] if working_dir else []
    folders += [Path(folder).absolute().parent for folder in py_modules]
    sys.path[:0] = map(str, folders)
