"""Gathering: when to send off what waits, so that requests which come together travel together."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

_log = logging.getLogger(__name__)

QUIET_TURNS = 16
"""Turns of the event loop without news after which a batch is as large as it gets; docs/performance.md measures it."""

MAX_TURNS = 256
"""Turns with news after which a batch goes off all the same, so that steady arrivals cannot hold it back."""


_RETRY_SECONDS = 0.1
"""When dispatching is tried again that failed unexpectedly."""


class Loop(Protocol):
    """What is needed of an event loop."""

    def call_soon(self, callback: Callable[[], None], /) -> object:
        """Runs a function after what is ready now."""

    def call_later(self, delay: float, callback: Callable[[], None], /) -> object:
        """Runs a function after so many seconds."""


class Gathering:
    """Dispatches once several turns of the event loop have brought nothing new.

    A request takes several turns from the wire to its queue, so under load there are always some on their way. To send
    off what happens to be here would cost a whole batch for one or two observations, just when the gateway has no time
    to spare. Turns without news take microseconds, so this adds nothing that can be felt at light load; and what there
    is nothing to gather for, as a request that is alone or a batch that is full, is not held up at all.

    Args:
        loop: The event loop.
        is_wanted: Tells whether anybody would take a batch.
        is_complete: Tells whether there is nothing to gather for.
        dispatch: Sends off what waits.
    """

    def __init__(
        self, loop: Loop, is_wanted: Callable[[], bool], is_complete: Callable[[], bool], dispatch: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._is_wanted = is_wanted
        self._is_complete = is_complete
        self._dispatch = dispatch
        self._is_due = False
        self._news = self._quiet_turns = self._turns = 0

    def notify(self) -> None:
        """Takes note of news: a request, an answer, a replica."""
        self._news += 1
        if not self._is_due:
            self._is_due = True
            self._news = self._quiet_turns = 0
            self._loop.call_soon(self._end_turn)

    def _end_turn(self) -> None:
        self._is_due = False
        try:
            self._dispatch_or_wait()
        except Exception:  # noqa: BLE001 - whatever it is, it concerns no one else
            # What waits must not wait for ever, and without news there would be no other turn.
            _log.exception("dispatching failed unexpectedly; it is tried again")
            self._turns = 0
            self._loop.call_later(_RETRY_SECONDS, self.notify)

    def _dispatch_or_wait(self) -> None:
        if self._news:
            self._news = self._quiet_turns = 0
            self._turns += 1
        else:
            self._quiet_turns += 1
        if not self._is_wanted():
            # Nobody would take a batch, so there is nothing to gather one for; the next answer comes back to this.
            self._turns = 0
        elif self._quiet_turns >= QUIET_TURNS or self._turns >= MAX_TURNS or self._is_complete():
            self._turns = 0
            self._dispatch()
        else:
            self._is_due = True
            self._loop.call_soon(self._end_turn)
