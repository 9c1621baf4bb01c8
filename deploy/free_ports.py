"""Ports for servers that are started beside others: by tests, the benchmark, the load test and the faults.

A port that is only found free may be taken by somebody else before it is listened on. So each process owns blocks of
ports: it holds the first port of a block with a socket, which keeps every other process that uses this module from
the rest, and which the system closes when the process ends.
"""

from __future__ import annotations

import itertools
import os
import random
import socket
import threading
from collections.abc import Iterator

# Below the range from which the system takes ports for outgoing connections.
_RANGE = range(20_000, 32_000)
_BLOCK = 200


class _OwnPorts:
    """The ports of this process, each given once while there are any left."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._guards: list[socket.socket] = []
        self._left: Iterator[int] = iter(())

    def take(self, count: int) -> list[int]:
        """Gives free ports, one after the other within a block where nobody else listens on one between."""
        with self._lock:
            return [self._next() for _ in range(count)]

    def _next(self) -> int:
        free = next(filter(_is_free, self._left), None)
        if free is None:
            self._left = iter(self._new_block() or self._given_before())
            free = next(filter(_is_free, self._left), None)
        if free is None:
            raise OSError(f"expected a free port in {_RANGE}, found none")
        return free

    def _new_block(self) -> range | None:
        """Makes a block this process's own; gives its ports, or nothing where every block has an owner."""
        firsts = _RANGE[::_BLOCK]
        for first in random.sample(firsts, len(firsts)):
            guard = socket.socket()
            try:
                guard.bind(("127.0.0.1", first))
            except OSError:
                guard.close()
                continue
            self._guards.append(guard)
            return range(first + 1, first + _BLOCK)
        return None

    def _given_before(self) -> list[int]:
        firsts = [int(guard.getsockname()[1]) for guard in self._guards]
        return list(itertools.chain.from_iterable(range(first + 1, first + _BLOCK) for first in firsts))


_own = _OwnPorts()


def free_ports(count: int) -> list[int]:
    """Finds distinct ports of 127.0.0.1 that nobody listens on and that no other process is given.

    Args:
        count: How many.

    Raises:
        OSError: If there are no more.
    """
    return _own.take(count)


def free_address() -> str:
    """Gives an address on loopback with a port as `free_ports` finds it."""
    return f"127.0.0.1:{free_ports(1)[0]}"


def free_ports_in_a_row(count: int) -> int:
    """Finds free ports that follow each other.

    Args:
        count: How many.

    Returns:
        The first of them.

    Raises:
        OSError: If there are no more.
    """
    found = free_ports(count)
    while found[-1] - found[0] != count - 1:
        found = [*found[1:], *free_ports(1)]
    return found[0]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: connections of an earlier server that linger do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _own_none() -> None:
    """Leaves a forked process's parent its ports."""
    global _own
    _own = _OwnPorts()


os.register_at_fork(after_in_child=_own_none)
