"""Names and addresses of policies, as users write them."""

from __future__ import annotations

import functools
import re

from steersman.errors import InvalidArgumentError


def policy_name(environment_id: str) -> str:
    """Makes a policy's name from an environment's: "CartPole-v1" gives "cartpole"."""
    name = environment_id.rpartition("/")[2].rpartition(":")[2]
    return re.sub(r"[^a-z0-9_-]+", "-", re.sub(r"-v\d+$", "", name).lower())


@functools.lru_cache(maxsize=4096)
def parse_address(address: str) -> tuple[str, int]:
    """Reads "name" or "name:version"; the version is 0 if none is named.

    Raises:
        InvalidArgumentError: If there is no name, or the version is no number of at least 1.
    """
    name, separator, version = address.partition(":")
    if not name or (separator and not (version.isascii() and version.isdigit() and int(version) > 0)):
        raise InvalidArgumentError(f"expected an address like cartpole or cartpole:7, got {address!r}")
    return name, int(version or 0)
