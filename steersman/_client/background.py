"""The event loop of all sync streams of a process, in a thread of its own.

It is never closed. What gRPC still has to tell a loop that is, it tells whichever loop runs next in the process; there
that is an error, which keeps that loop from what is meant for it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


class Background:
    """An event loop in a thread, started when there is something to do."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, work: Coroutine[Any, Any, _T]) -> concurrent.futures.Future[_T]:
        """Has something done there.

        Returns:
            What comes of it.
        """
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="steersman-streams", daemon=True).start()
            return asyncio.run_coroutine_threadsafe(work, self._loop)

    def forget(self) -> None:
        """Starts anew in a forked child, which has the loop but not its thread."""
        self._lock = threading.Lock()
        self._loop = None


background = Background()
"""The one of this process."""

os.register_at_fork(after_in_child=background.forget)
