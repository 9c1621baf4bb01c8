"""From addresses to what gRPC connects to: one target, and the channel arguments that go with it.

gRPC looks up a single name by itself, also again. Of several addresses it takes numbers only, so names among them are
looked up here. IPv4 and IPv6 numbers cannot be mixed in a target, but IPv6 has numbers that mean IPv4 ones.
"""

from __future__ import annotations

import ipaddress
import json
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from steersman._client.options import ConnectionOptions, RetryPolicy
from steersman._client.proxies import Proxy, proxy_for
from steersman.addresses import HostPort, for_grpc, host_port, is_loopback_host, is_unix
from steersman.errors import InvalidArgumentError

Argument = tuple[str, str | int]
"""One argument of a channel."""

LookUp = Callable[[str, int], Sequence[str]]
"""Gives the numbers of a host by its name and port; raises `OSError` where there are none."""


@dataclass(frozen=True)
class Target:
    """What a channel connects to.

    Attributes:
        uri: In gRPC's syntax.
        arguments: Arguments of the channel that depend on the addresses.
    """

    uri: str
    arguments: tuple[Argument, ...]


def look_up(host: str, port: int) -> Sequence[str]:
    """Asks the system for the numbers of a host.

    Raises:
        OSError: If there are none.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def has_names(addresses: Sequence[str]) -> bool:
    """Tells whether there are names to look up here: among several addresses, but not where there is but one."""
    return len(addresses) > 1 and not all(_is_number(host_port(address).host) for address in addresses)


def target_of(addresses: Sequence[str], look_up: LookUp) -> Target:
    """Makes the target for one gateway or several.

    Args:
        addresses: See `ConnectionOptions.addresses`.
        look_up: Looks up names.
    """
    if len(addresses) == 1:
        (address,) = addresses
        proxied = any(proxy_for(host) for host in hosts_of(address))
        return Target(for_grpc(address), () if proxied else (("grpc.enable_http_proxy", 0),))
    found: dict[HostPort, Proxy | None] = {}
    for host, port in map(host_port, addresses):
        try:
            numbers = [host] if _is_number(host) else look_up(host, port)
        except OSError:
            continue  # the others may do; it is looked up again
        for number in numbers:
            direct = is_loopback_host(number)
            found[HostPort(number, port)] = None if direct else proxy_for(host)
    if not found:
        # gRPC finds words for a name that cannot be looked up, and goes on trying.
        return target_of(addresses[:1], look_up)
    return Target(_uri(sorted(found)), (("grpc.enable_http_proxy", 0), *_proxied(found, look_up)))


def hosts_of(address: str) -> list[str]:
    """Gives the hosts of an address or of a target of gRPC's: one, or several of a list; none of a Unix socket."""
    if is_unix(address):
        return []
    scheme, colon, rest = address.partition(":")
    if colon and scheme in {"dns", "ipv4", "ipv6"}:
        address = rest.rpartition("/")[2]
    hosts = []
    for entry in address.split(","):
        try:
            hosts.append(host_port(entry).host)
        except InvalidArgumentError:
            hosts.append(entry)  # without a port: gRPC will say so
    return hosts


def channel_arguments(options: ConnectionOptions) -> list[Argument]:
    """Gives the arguments of every channel, wherever it leads."""
    connect_milliseconds = max(1, int(options.connect_timeout * 1000))
    return [
        ("grpc.max_receive_message_length", options.max_message_bytes),
        ("grpc.max_send_message_length", options.max_message_bytes),
        ("grpc.use_local_subchannel_pool", int(options.own_connections)),
        ("grpc.enable_retries", int(options.retry.max_attempts > 1)),
        ("grpc.service_config", json.dumps(_service_config(options.retry))),
        # The name of the argument says what it does between attempts; it also bounds each attempt, from the first
        # byte to the server's first word.
        ("grpc.min_reconnect_backoff_ms", connect_milliseconds),
        # A gateway that comes back is found again quickly, also by name under another number.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        ("grpc.dns_min_time_between_resolutions_ms", 1_000),
        # A peer that vanished without a word is noticed within half a minute.
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 10_000),
    ]


def _service_config(retry: RetryPolicy) -> dict[str, Any]:
    # Over one address round_robin is the same as picking it; over several it spreads the calls.
    config: dict[str, Any] = {"loadBalancingConfig": [{"round_robin": {}}]}
    if retry.max_attempts > 1:
        config["methodConfig"] = [
            {
                "name": [{"service": "steersman.v1.PolicyService"}],
                "retryPolicy": {
                    "maxAttempts": min(retry.max_attempts, 5),  # which is what gRPC allows
                    "initialBackoff": f"{retry.initial_backoff}s",
                    "maxBackoff": f"{retry.max_backoff}s",
                    "backoffMultiplier": retry.backoff_multiplier,
                    # CANCELLED is how gRPC ends a call that reaches a server at the moment in which that shuts down. A
                    # call that the caller itself cancels is not sent again. RESOURCE_EXHAUSTED is not here: gRPC gives
                    # it to messages that are too large as well, so the client tells the two apart (`exchange`).
                    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
                },
            }
        ]
        # When more than about a third of the calls fail, retries stop until it gets better. The most tokens that gRPC
        # allows, so that it takes more than the calls which one gateway's end breaks: hundreds, where many threads ask.
        config["retryThrottling"] = {"maxTokens": 1000, "tokenRatio": 0.5}
    return config


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _uri(addresses: Sequence[HostPort]) -> str:
    if not any(":" in host for host, _ in addresses):
        return "ipv4:" + ",".join(map(str, addresses))
    mapped = (HostPort(host if ":" in host else f"::ffff:{host}", port) for host, port in addresses)
    return "ipv6:" + ",".join(map(str, mapped)).replace("%", "%25")


def _proxied(found: dict[HostPort, Proxy | None], look_up: LookUp) -> list[Argument]:
    """Has gRPC reach those addresses of a list through the proxy that do not go around it."""
    through = [(address, proxy) for address, proxy in found.items() if proxy is not None]
    if not through:
        return []
    proxy = through[0][1]  # there is one for all
    try:
        number = proxy.host if _is_number(proxy.host) else look_up(proxy.host, proxy.port)[0]
    except OSError:
        return []
    mapped = any(":" in host for host, _ in found)
    hosts = [f"::ffff:{host}" if mapped and ":" not in host else host for (host, _), _ in through]
    arguments: list[Argument] = [
        ("grpc.address_http_proxy", str(HostPort(number, proxy.port))),
        ("grpc.address_http_proxy_enabled_addresses", ",".join(hosts)),
    ]
    return [*arguments, ("grpc.http_connect_headers", proxy.headers)] if proxy.headers else arguments
