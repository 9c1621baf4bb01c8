"""Ports: whether the addresses of a program are free, told before anything is started."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable

import psutil

from deploy.programs import Program
from steersman.errors import FailedPreconditionError
from steersman.settings import port_of

_LARGEST_PORT = 65_535


def check_free(programs: Iterable[Program]) -> None:
    """Checks that every address that the programs will listen on can be listened on.

    Raises:
        FailedPreconditionError: If one cannot; it names the address, who has it and the setting to change.
    """
    taken: dict[str, str] = {}
    for program in programs:
        for setting, address in program.ports.items():
            variable = f"STEERSMAN_{setting.upper()}"
            if address in taken:
                raise FailedPreconditionError(
                    f"expected every program to have an address of its own, but {taken[address]} and {variable} are "
                    f"both {address}; change one of them"
                )
            taken[address] = variable
            _check(program.name, variable, address)


def _check(program: str, variable: str, address: str) -> None:
    """Binds one address for a moment, as the program will."""
    if address.startswith("unix:"):
        return  # one that is left over is replaced
    host, _, _ = address.rpartition(":")
    try:
        port = _port(address)
        found = socket.getaddrinfo(host.strip("[]") or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, *_, where = found[0]
        with socket.socket(family) as probe:
            # As servers do: connections of an earlier server that linger do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
    except ValueError as error:
        raise FailedPreconditionError(f"{program} has no address in {variable}: {error}") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            reason = f"it is in use{_user_of(port)}: end that, or"
        else:
            reason = f"the system says {error.strerror!r}:"
        raise FailedPreconditionError(
            f"{program} cannot listen on {address}, because {reason} set {variable} to another address"
        ) from error


def _port(address: str) -> int:
    port = port_of(address)
    if port > _LARGEST_PORT:
        raise ValueError(f"expected a port up to {_LARGEST_PORT}, got {address!r}")
    return port


def _user_of(port: int) -> str:
    """Names the process that listens on a port, where the system tells."""
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        return ""
    for connection in connections:
        if connection.laddr and connection.laddr.port == port and connection.pid:
            try:
                return f" by {psutil.Process(connection.pid).name()} (process {connection.pid})"
            except psutil.NoSuchProcess:
                return ""
    return ""
