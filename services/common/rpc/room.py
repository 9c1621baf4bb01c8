"""What waits to be sent on a connection, and whom that stops."""

from __future__ import annotations

from typing import Protocol

from services.common.rpc.http2 import Http2
from services.common.rpc.limits import Limits
from services.common.rpc.receiver import Hold

_SMALL_BYTES = 1024


class Answering(Protocol):
    """A call, as far as its answers need room."""

    stream: int

    def hold(self, reason: Hold) -> None:
        """Stops reading."""

    def make_room(self) -> None:
        """Tells the handler of room for answers, and reads on."""


class Room:
    """The room for answers that a client does not take.

    A call that has more than its share waiting is not read from. With much waiting on all calls, new ones should not
    begin; with too much, answers are refused.

    Args:
        http2: Knows how much waits.
        limits: How much may.

    Attributes:
        small_bytes: Up to so many bytes, with what waits of the same call, an answer is sent without asking.
    """

    __slots__ = ("_full", "_http2", "_limits", "small_bytes")

    def __init__(self, http2: Http2, limits: Limits) -> None:
        self._http2 = http2
        self._limits = limits
        self.small_bytes = min(_SMALL_BYTES, limits.max_send_message_bytes)
        self._full: set[Answering] = set()

    @property
    def crowded(self) -> bool:
        """Whether so much waits on all calls that new ones should wait too."""
        return self._http2.unsent() > self._limits.max_unsent_bytes // 4

    def refusal(self, size: int) -> str | None:
        """Tells why an answer of so many bytes is not sent; None if it is."""
        limits = self._limits
        if size > limits.max_send_message_bytes:
            return f"expected an answer of at most {limits.max_send_message_bytes} bytes, got one of {size}"
        if self._http2.unsent() > limits.max_unsent_bytes:
            return f"expected a client that reads its answers, got one that leaves {limits.max_unsent_bytes} bytes"
        return None

    def fill(self, call: Answering) -> None:
        """Stops reading from a call whose answers pile up."""
        call.hold(Hold.ROOM)
        self._full.add(call)

    def leave(self, call: Answering) -> None:
        """Forgets a call that is gone."""
        self._full.discard(call)

    def look(self) -> None:
        """Lets those go on for whom there is room now."""
        if self._full:
            enough = self._limits.max_call_unsent_bytes // 2
            for call in [call for call in self._full if self._http2.unsent(call.stream) <= enough]:
                self._full.discard(call)
                call.make_room()
