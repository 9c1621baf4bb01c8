"""The proxy that gRPC takes from the environment: which one it is, and that it is never used for this machine.

gRPC obeys `grpc_proxy`, `https_proxy` and `http_proxy` (the first that is set, in lower case only) unless
`no_grpc_proxy` or `no_proxy` names the host, for loopback addresses too. This module follows gRPC's own rules
(src/core/handshaker/http_connect/http_proxy_mapper.cc), so that it can be told whom an error is about.
"""

from __future__ import annotations

import base64
import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from steersman.addresses import is_loopback_host

_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
_EXCEPTIONS = ("no_grpc_proxy", "no_proxy")
_DEFAULT_PORT = 443


@dataclass(frozen=True)
class Proxy:
    """A proxy that the environment names.

    Attributes:
        variable: The environment variable.
        host: The proxy's host.
        port: Its port.
        credentials: "user:password"; empty if there are none.
    """

    variable: str
    host: str
    port: int
    credentials: str = ""

    def __str__(self) -> str:
        return f"the proxy {self.host}:{self.port} of the environment variable {self.variable}"

    @property
    def headers(self) -> str:
        """The headers that gRPC is to send it; empty if there are none."""
        if not self.credentials:
            return ""
        return f"Proxy-Authorization:Basic {base64.b64encode(self.credentials.encode()).decode()}"


def proxy_for(host: str, environment: Mapping[str, str] = os.environ) -> Proxy | None:
    """Gives the proxy through which a host is reached; None if it is reached directly.

    Args:
        host: Name or number, without brackets.
        environment: The environment variables.
    """
    variable = next((name for name in _VARIABLES if name in environment), "")
    if not variable or is_loopback_host(host) or _is_excepted(host, environment):
        return None
    try:
        parts = urlsplit(environment[variable])
        port = parts.port or _DEFAULT_PORT
    except ValueError:
        return None
    if parts.scheme != "http" or not parts.hostname:
        return None  # which gRPC does not take
    credentials, at, _ = parts.netloc.rpartition("@")
    return Proxy(variable, parts.hostname, port, unquote(credentials) if at else "")


def _is_excepted(host: str, environment: Mapping[str, str]) -> bool:
    variable = next((name for name in _EXCEPTIONS if name in environment), "")
    entries = [entry.strip() for entry in environment.get(variable, "").split(",")]
    return any(host.lower().endswith(entry.lower()) or _is_in_subnet(host, entry) for entry in entries if entry)


def _is_in_subnet(host: str, subnet: str) -> bool:
    if "/" not in subnet:
        return False
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(subnet, strict=False)
    except ValueError:
        return False
