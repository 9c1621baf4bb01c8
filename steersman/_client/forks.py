"""What a forked process inherits from gRPC: nothing that works.

gRPC's threads do not exist in a child, its locks may be held for ever, and parent and child would write into the same
connections. Measured with grpcio 1.85: some calls in children were answered, others hung or ended the process, and some
of the parent's calls failed; grpcio's own fork support, as it is by default or switched on, makes it worse. So a child
of a process with open connections is refused them, at once and in words, and never reaches into gRPC. Where all of them
were closed, or had made no call yet, the child connects anew.
"""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import time
from pathlib import Path
from weakref import WeakSet

from steersman.errors import FailedPreconditionError

_POLLER = "(_poll_wrapper)"
"""How the name of the thread ends in which gRPC waits for all event loops of a process."""

_THREADS = frozenset({"event_engine", "grpc_global_tim", "lifeguard"})
"""What Linux calls gRPC's own threads."""

_SECONDS_TO_END = 1.0
"""How long a fork waits for those threads to end."""


class _Forks:
    """What is known of this process and its parent.

    Attributes:
        open: What works in gRPC for this process: channels that were used and not closed.
        lost: The same of its parent, kept for good: even freeing it would reach into gRPC.
        is_lost: Whether gRPC was in use when this process was forked.
        closed_since_fork: Whether a channel was closed since this process has last forked.
    """

    def __init__(self) -> None:
        self.open: WeakSet[object] = WeakSet()
        self.lost: list[object] = []
        self.is_lost = False
        self.closed_since_fork = False
        self._is_in_use = False

    def before(self) -> None:
        """Looks whether gRPC is in use; waits until it has ended if all that used it was closed."""
        if not self.open and polls():
            # What is closed goes with the last references, of which gRPC's own calls have some in circles.
            gc.collect()
        in_use = bool(self.open) or polls()
        if not in_use and self.closed_since_fork:
            # Its threads take some milliseconds to end, and what they hold locked then, a child finds locked for ever.
            deadline = time.monotonic() + _SECONDS_TO_END
            while _has_threads() and time.monotonic() < deadline:
                time.sleep(0.001)
        self.closed_since_fork = False
        self._is_in_use = in_use or _has_threads()

    def after_in_child(self) -> None:
        """Takes note of it."""
        self.lost.extend(self.open)
        self.is_lost = self.is_lost or self._is_in_use


_forks = _Forks()
os.register_at_fork(before=_forks.before, after_in_child=_forks.after_in_child)


def polls() -> bool:
    """Tells whether gRPC waits for an event loop of this process."""
    return any(thread.name.endswith(_POLLER) for thread in threading.enumerate())


def _has_threads() -> bool:
    """Tells whether gRPC's own threads run in this process; no where the system does not say."""
    for task in Path("/proc/self/task").glob("*/comm"):
        # One that has just ended has no name any more.
        with contextlib.suppress(OSError):
            if task.read_text().strip() in _THREADS:
                return True
    return False


def opened(user: object) -> None:
    """Takes note of what goes into gRPC."""
    _forks.open.add(user)


def closed(user: object) -> None:
    """Takes note of what has left it."""
    _forks.open.discard(user)
    _forks.closed_since_fork = True


def is_lost() -> bool:
    """Tells whether gRPC cannot be used in this process, since it was in use when its parent forked."""
    return _forks.is_lost


def check() -> None:
    """Refuses to go into gRPC where it cannot be used.

    Raises:
        FailedPreconditionError: If it was in use when this process was forked.
    """
    if _forks.is_lost:
        raise FailedPreconditionError(
            "expected a process that was not forked while a client was connected, got one that was; start it by "
            "multiprocessing's 'spawn' or 'forkserver', or close all clients before the fork"
        )
