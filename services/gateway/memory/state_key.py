"""The secret that seals the state which clients carry."""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path

_KEY_BYTES = 32


def read_state_key(path: Path) -> bytes:
    """Reads the secret; makes it if there is none yet.

    Several gateways may start at once: all of them get the key of whoever was first.

    Args:
        path: The file; readable by its owner alone.

    Raises:
        ValueError: If the file holds something else.
    """
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Its name is nobody else's, not even that of a process with the same id in another container; its mode is 0600.
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        fresh = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
        try:
            # A link appears complete or not at all, and never replaces what is there.
            path.hardlink_to(fresh)
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    key = path.read_bytes()
    if len(key) != _KEY_BYTES:
        raise ValueError(f"expected a key of {_KEY_BYTES} bytes in {path}, got {len(key)} bytes")
    return key
