"""Busy polling: stays awake for the moment in which the next message is expected."""

from __future__ import annotations

import asyncio
import os
import time

_SOON = 2.0
"""How many times as long as is polled a message may take to show that the next one is worth it. To wake a process takes
about as long as what one waits for, so without polling everything comes later."""


class BusyPoll:
    """Keeps an event loop from sleeping while the other side of a connection is about to answer.

    A process that sleeps takes tens of microseconds to be woken, on virtual machines more than a small batch takes to
    be computed (docs/performance.md). So where messages have lately come that soon after what they answer, the loop
    goes round for that long; it serves whatever else comes meanwhile. Where they have not, it sleeps at once.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._seconds = 0.0
        self._asked_at = 0.0
        self._until = 0.0
        self._pays = False
        self._polls = False

    def expect(self, seconds: float) -> None:
        """Polls, if it pays.

        Args:
            seconds: How long at most; 0 for not at all.
        """
        self._seconds = seconds
        self._asked_at = time.monotonic()
        if self._pays and seconds:
            self._until = self._asked_at + seconds
            if not self._polls:
                self._polls = True
                self._loop.call_soon(self._turn)

    def arrived(self) -> None:
        """Learns from a message that has come, and polls no more."""
        self._until = 0.0
        if self._asked_at:
            self._pays = time.monotonic() - self._asked_at < _SOON * self._seconds
            self._asked_at = 0.0

    def _turn(self) -> None:
        self._polls = time.monotonic() < self._until
        if self._polls:
            # Whoever else wants this processor gets it.
            os.sched_yield()
            self._loop.call_soon(self._turn)
