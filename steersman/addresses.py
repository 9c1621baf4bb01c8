"""Addresses as users write them, and which of them are this machine: `host:port`, `[::1]:port` or `unix:/path`."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from steersman.errors import InvalidArgumentError

_UNIX = ("unix:", "unix-abstract:", "vsock:")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class HostPort(NamedTuple):
    """An address of TCP.

    Attributes:
        host: Name or number, without brackets.
        port: Number of the port.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def is_unix(address: str) -> bool:
    """Tells whether an address is a socket of this machine's kernel, which has neither host nor port."""
    return address.startswith(_UNIX)


def for_grpc(address: str) -> str:
    """Gives an address in gRPC's syntax, where a path is part of a URI and may have no `#`, `%` and the like."""
    if not address.startswith("unix:"):
        return address
    return "unix:" + quote(address.removeprefix("unix:"))


def host_port(address: str) -> HostPort:
    """Reads `host:port`, where the host is a name, a number, or an IPv6 number in brackets.

    Raises:
        InvalidArgumentError: If it is something else.
    """
    host, _, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    bare = host[1:-1] if bracketed else host
    if not bare or bracketed != (":" in bare) or "/" in host or not (port.isascii() and port.isdigit()):
        raise InvalidArgumentError(
            f"expected an address like 127.0.0.1:50051, [::1]:50051 or unix:/path/of/socket, got {address!r}"
        )
    return HostPort(bare, int(port))


def is_loopback_host(host: str) -> bool:
    """Tells whether a host is this machine, reached without a network: by number, or by a name for nothing else."""
    name = host.strip("[]").rstrip(".").lower()
    try:
        number = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return name == "localhost" or name.endswith(".localhost") or name in _loopback_names()
    mapped = getattr(number, "ipv4_mapped", None)
    return any(each.is_loopback or each.is_unspecified for each in (number, mapped) if each is not None)


def is_loopback(address: str) -> bool:
    """Tells whether an address leads to this machine, without a network or a name service: a socket or a host here."""
    try:
        return is_unix(address) or is_loopback_host(host_port(address).host)
    except InvalidArgumentError:
        return False  # a target of gRPC's own, with a scheme


def is_loopback_url(url: str) -> bool:
    """Tells whether a URL's host is this machine."""
    return is_loopback_host(urlsplit(url).hostname or "")


def without_proxy_on_loopback(environment: Mapping[str, str]) -> dict[str, str]:
    """Gives the variables that keep a process, and all that it starts, from using a proxy for this machine.

    For libraries that read a proxy from the environment by themselves. What the user has excepted stays excepted.

    Args:
        environment: The variables as they are.

    Returns:
        Those to change.
    """
    # Programs read one spelling or the other, so both get all that either names; gRPC reads its own and then no other.
    names = ("NO_PROXY", "no_proxy", *(["no_grpc_proxy"] if "no_grpc_proxy" in environment else []))
    given = [host.strip() for name in names for host in environment.get(name, "").split(",")]
    return dict.fromkeys(names, ",".join(dict.fromkeys(filter(None, [*given, *_LOOPBACK]))))


@cache
def _loopback_names() -> frozenset[str]:
    """Reads the names that this machine itself gives to loopback addresses, such as ip6-localhost or its own."""
    try:
        lines = Path("/etc/hosts").read_text(errors="replace").splitlines()
    except OSError:
        return frozenset()
    entries = [line.partition("#")[0].split() for line in lines]
    return frozenset(
        name.lower() for number, *names in filter(None, entries) for name in names if _is_loopback_number(number)
    )


def _is_loopback_number(text: str) -> bool:
    try:
        return ipaddress.ip_address(text.partition("%")[0]).is_loopback
    except ValueError:
        return False
