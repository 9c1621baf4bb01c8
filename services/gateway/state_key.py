"""The secret that seals the state which clients carry."""

from __future__ import annotations

import os
import secrets
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
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        fresh.touch(mode=0o600)
        fresh.write_bytes(secrets.token_bytes(_KEY_BYTES))
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
