"""Stream sockets by address, `host:port` or `unix:/path`: where frames travel.

TLS would come in here, for both sides: the calls that make connections take an `ssl` argument.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

_Protocol = TypeVar("_Protocol", bound=asyncio.Protocol)

_UNIX = "unix:"
_DIAL_SECONDS = 5.0
_KEEPALIVE_IDLE_SECONDS = 10
_KEEPALIVE_INTERVAL_SECONDS = 5
_KEEPALIVE_PROBES = 2
_UNACKNOWLEDGED_MILLISECONDS = 20_000


def bind(address: str) -> socket.socket:
    """Takes an address; the socket does not listen yet.

    Args:
        address: `host:port`, where port 0 takes a free one, or `unix:/path`, which a dead process may have left behind.

    Raises:
        OSError: If the address is in use or not this machine's.
    """
    try:
        if address.startswith(_UNIX):
            return _bind_unix(_path(address))
        return _bind_tcp(*_host_and_port(address))
    except OSError as error:
        raise OSError(f"cannot listen on {address}: {error.strerror or error}") from error


def bound_address(listening: socket.socket) -> str:
    """Gives the address of a socket, with its real port."""
    name = listening.getsockname()
    if listening.family == socket.AF_UNIX:
        return f"{_UNIX}{name}"
    host = f"[{name[0]}]" if listening.family == socket.AF_INET6 else name[0]
    return f"{host}:{name[1]}"


async def listen(listening: socket.socket, protocol: Callable[[], asyncio.Protocol]) -> asyncio.Server:
    """Starts to take connections, each with a protocol of its own."""
    loop = asyncio.get_running_loop()
    if listening.family == socket.AF_UNIX:
        return await loop.create_unix_server(protocol, sock=listening)
    # Connections inherit this from the socket that listens.
    _keep_alive(listening)
    return await loop.create_server(protocol, sock=listening)


async def connect(address: str, protocol: Callable[[], _Protocol]) -> _Protocol:
    """Dials an address.

    Raises:
        OSError: If nobody answers there, `TimeoutError` included.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(_DIAL_SECONDS):
        if address.startswith(_UNIX):
            _, connected = await loop.create_unix_connection(protocol, _path(address))
            return connected
        host, port = _host_and_port(address)
        transport, connected = await loop.create_connection(protocol, host, port)
    _keep_alive(transport.get_extra_info("socket"))
    return connected


def release(address: str) -> None:
    """Removes what an address leaves behind in the file system when nobody listens there any more."""
    if address.startswith(_UNIX):
        Path(_path(address)).unlink(missing_ok=True)


def _path(address: str) -> str:
    return address.removeprefix(_UNIX).removeprefix("//")


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _bind_unix(path: str) -> socket.socket:
    if _is_answered(path):
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    if Path(path).is_socket():
        Path(path).unlink()
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.bind(path)
    except OSError:
        listening.close()
        raise
    return listening


def _is_answered(path: str) -> bool:
    """Tells whether a process listens there; what a dead one left refuses connections."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(path) == 0


def _bind_tcp(host: str, port: int) -> socket.socket:
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except OSError:
        listening.close()
        raise
    return listening


def _keep_alive(connection: socket.socket) -> None:
    """Has the kernel notice a machine that went away: by asking an idle peer, and by what stays unacknowledged."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", _KEEPALIVE_IDLE_SECONDS),
        ("TCP_KEEPINTVL", _KEEPALIVE_INTERVAL_SECONDS),
        ("TCP_KEEPCNT", _KEEPALIVE_PROBES),
        ("TCP_USER_TIMEOUT", _UNACKNOWLEDGED_MILLISECONDS),
    ):
        # Not every system has all of them.
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
