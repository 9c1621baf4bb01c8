"""Names and addresses of policies, as users write them."""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

from steersman.errors import InvalidArgumentError
from steersman.quoting import quoted

MAX_ADDRESS_LENGTH = 512
"""Characters of an address at most. Longer ones name nothing that could be deployed, so they are neither looked up nor
remembered."""

MAX_VERSION = 2**63 - 1
"""The largest version that messages can carry."""


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


def parse_address(address: str) -> Address:
    """Reads "name", "name:version" or "name@alias".

    Raises:
        InvalidArgumentError: If there is no name, the version is no number from 1 to `MAX_VERSION`, the alias is empty,
            or all of it is longer than `MAX_ADDRESS_LENGTH`.
    """
    # Before it is looked up, since looking up reads all of it.
    if len(address) > MAX_ADDRESS_LENGTH:
        raise InvalidArgumentError(
            f"expected the address of a policy with at most {MAX_ADDRESS_LENGTH} characters, got {quoted(address)}"
        )
    return _parse_address(address)


# A client asks for the same policy again and again.
@functools.lru_cache(maxsize=4096)
def _parse_address(address: str) -> Address:
    name, at, alias = address.partition("@")
    if at:
        if name and alias and ":" not in address and "@" not in alias:
            return Address(name, alias=alias)
    else:
        name, colon, version = address.partition(":")
        if name and not colon:
            return Address(name)
        if name and version.isascii() and version.isdigit() and int(version) > 0:
            if int(version) > MAX_VERSION:
                raise InvalidArgumentError(f"expected a version of at most {MAX_VERSION}, got {quoted(address)}")
            return Address(name, int(version))
    raise InvalidArgumentError(
        f"expected an address like cartpole, cartpole:7 or cartpole@candidate, got {quoted(address)}"
    )


def parse_version(address: str) -> tuple[str, int]:
    """Reads "name" or "name:version"; the version is 0 if none is named.

    Raises:
        InvalidArgumentError: If it is neither.
    """
    name, version, alias = parse_address(address)
    if alias:
        raise InvalidArgumentError(f"expected a policy like cartpole or cartpole:7, got {quoted(address)}")
    return name, version


def names_a_version(address: str) -> bool:
    """Tells whether an address names a version, by number or by alias, and not just a policy."""
    return ":" in address or "@" in address
