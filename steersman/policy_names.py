"""Names and addresses of policies, as users write them."""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

from steersman.errors import InvalidArgumentError


def policy_name(environment_id: str) -> str:
    """Makes a policy's name from an environment's: "CartPole-v1" gives "cartpole"."""
    name = environment_id.rpartition("/")[2].rpartition(":")[2]
    return re.sub(r"[^a-z0-9_-]+", "-", re.sub(r"-v\d+$", "", name).lower())


class Address(NamedTuple):
    """Whom a request is for.

    Attributes:
        policy: The policy's name.
        version: The version; 0 if none is named.
        alias: The alias whose version is meant; empty if none is named.
    """

    policy: str
    version: int = 0
    alias: str = ""


@functools.lru_cache(maxsize=4096)
def parse_address(address: str) -> Address:
    """Reads "name", "name:version" or "name@alias".

    Raises:
        InvalidArgumentError: If there is no name, the version is no number of at least 1, or the alias is empty.
    """
    name, at, alias = address.partition("@")
    if at:
        if name and alias and ":" not in address and "@" not in alias:
            return Address(name, alias=alias)
    else:
        name, colon, version = address.partition(":")
        if name and not colon:
            return Address(name)
        if name and version.isascii() and version.isdigit() and int(version) > 0:
            return Address(name, int(version))
    raise InvalidArgumentError(f"expected an address like cartpole, cartpole:7 or cartpole@candidate, got {address!r}")


def parse_version(address: str) -> tuple[str, int]:
    """Reads "name" or "name:version"; the version is 0 if none is named.

    Raises:
        InvalidArgumentError: If it is neither.
    """
    name, version, alias = parse_address(address)
    if alias:
        raise InvalidArgumentError(f"expected a policy like cartpole or cartpole:7, got {address!r}")
    return name, version


def names_a_version(address: str) -> bool:
    """Tells whether an address names a version, by number or by alias, and not just a policy."""
    return ":" in address or "@" in address
