"""Which checkpoints this installation's own trainer wrote, by their digests.

RLlib's checkpoints hold pickles, and reading one runs whatever code it says. So a run starts only from one whose digest
was noted here when it was written: not from what somebody sent, and not from what somebody changed in MLflow's store.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from steersman.errors import FailedPreconditionError


def ledger(var_dir: Path) -> Path:
    """Gives the folder with the digests, each the name of an empty file."""
    return var_dir.absolute() / "checkpoints"


def digest(checkpoint: Path) -> str:
    """Gives the SHA-256 of the names and contents of a checkpoint's files.

    Hidden ones are left out: RLlib reads none, and Tune adds some later.

    Raises:
        OSError: If one cannot be read.
    """
    whole = hashlib.sha256()
    for path in sorted(checkpoint.rglob("*")):
        name = path.relative_to(checkpoint)
        if not path.is_file() or any(part.startswith(".") for part in name.parts):
            continue
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        whole.update(f"{name.as_posix()}\0{content}\0".encode(errors="surrogateescape"))
    return whole.hexdigest()


def note(checkpoint: Path, noted: Path) -> None:
    """Notes that the trainer has written a checkpoint.

    Args:
        checkpoint: Its folder.
        noted: The ledger.

    Raises:
        OSError: If it cannot be noted.
    """
    noted.mkdir(mode=0o700, parents=True, exist_ok=True)
    (noted / digest(checkpoint)).touch(mode=0o600)


def is_ours(checkpoint: Path, noted: Path) -> bool:
    """Tells whether the trainer has written a checkpoint, just as it is."""
    return checkpoint.is_dir() and (noted / digest(checkpoint)).is_file()


def check(checkpoint: Path, noted: Path, name: str) -> None:
    """Checks that a checkpoint may be read.

    Args:
        checkpoint: Its folder.
        noted: The ledger.
        name: What whoever asks calls it.

    Raises:
        FailedPreconditionError: If this installation's trainer did not write it as it is.
    """
    if not is_ours(checkpoint, noted):
        raise FailedPreconditionError(
            "expected a checkpoint to start from that this installation's own trainer wrote, since reading one runs "
            f"the code in it, but the digest of {name} is not among those in {noted}; train it here, or start without"
        )
