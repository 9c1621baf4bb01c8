"""Sockets that listen, by the addresses that gRPC uses: `host:port`, `[::]:port` and `unix:/path`."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Sequence
from pathlib import Path

BACKLOG = 1024


def listen(address: str, *, share_port: bool = False) -> Sequence[socket.socket]:
    """Takes an address, on every family that its host has; connections wait there until somebody takes them.

    Args:
        address: `host:port`, where port 0 takes a free one, or `unix:/path`, which a dead process may have left behind.
        share_port: Whether other processes may take the same port, each for a part of the connections.

    Returns:
        The sockets, all of the same port.

    Raises:
        OSError: If the address is in use or not this machine's.
        ValueError: If it is none.
    """
    if address.startswith("unix:"):
        return (_listen_unix(address.removeprefix("unix:").removeprefix("//")),)
    host, _, text = address.rpartition(":")
    if not host or not text.isdecimal():
        raise ValueError(f"expected an address of the form host:port or unix:/path, got {address!r}")
    port = int(text)
    sockets: list[socket.socket] = []
    try:
        for family, _, _, _, name in socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM):
            listening = _listen_tcp(family, (name[0], port), share_port=share_port)
            sockets.append(listening)
            port = listening.getsockname()[1]
    except OSError:
        for listening in sockets:
            listening.close()
        raise
    return sockets


def port_of(listening: socket.socket) -> int:
    """Gives the port of a socket; 1 for a Unix socket, as gRPC does."""
    return 1 if listening.family == socket.AF_UNIX else int(listening.getsockname()[1])


def _listen_tcp(family: int, name: tuple[object, ...], *, share_port: bool) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share_port:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # As gRPC does it: `[::]` is every address of both families.
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(name[0] != "::"))
        listening.bind(name)
        # Until one listens, another may take the same address.
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


def _listen_unix(path: str) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(Path(path).stat().st_mode):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                if probe.connect_ex(path) == 0:
                    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), path)
            Path(path).unlink()
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.bind(path)
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening
