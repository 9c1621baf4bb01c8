"""Trials: a bundle is loaded in a process of its own first, so that one which ends its process ends nothing else.

`python -m services.policy.trial FOLDER` loads and warms a bundle, and that is all.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from services.common.bundle import Bundle, read_bundle
from steersman.errors import InternalError

_SECONDS = 120.0
_NICENESS = 10
"""So that what is being served comes first."""


def try_bundle(bundle: Bundle, passed: Path) -> None:
    """Finds out whether a bundle can be loaded without harm. Blocks.

    What it merely raises is not told here: it will raise the same again.

    Args:
        bundle: The bundle.
        passed: Folder in which models are remembered that have passed, so that they are tried once on each machine.

    Raises:
        InternalError: If the process that loaded it was ended by the system, or did not come to an end.
    """
    mark = passed / bundle.spec.model_sha256
    if mark.exists():
        return
    command = [sys.executable, "-m", "services.policy.trial", str(bundle.folder)]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        raise InternalError(f"the bundle {bundle.folder} could not be loaded within {_SECONDS:g} s") from None
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise InternalError(f"the bundle {bundle.folder} cannot be loaded: the process that tried it ended by {name}")
    passed.mkdir(parents=True, exist_ok=True)
    mark.touch()


def main(folder: Path) -> None:
    """Loads a bundle.

    Args:
        folder: The bundle's folder.
    """
    from services.policy.runtime import PolicyRuntime

    os.nice(_NICENESS)
    PolicyRuntime(read_bundle(folder))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
