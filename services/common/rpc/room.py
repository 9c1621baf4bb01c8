"""What waits to be sent on a connection, and whom that stops."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from services.common.rpc.http2 import Http2
from services.common.rpc.limits import Limits
from services.common.rpc.receiver import Hold

if TYPE_CHECKING:
    from services.common.rpc.call import Call

_SMALL_BYTES = 1024


class Room:
    """The room for answers that a client does not take.

    A call that has more than its share waiting is not read from. With much waiting on all calls, new ones are not
    begun; with too much, answers are refused.

    Args:
        http2: Knows how much waits.
        limits: How much may.
        begin: Begins a call.

    Attributes:
        small_bytes: Up to so many bytes, with what waits of the same call, an answer is sent without asking.
    """

    __slots__ = ("_begin", "_full", "_http2", "_limits", "_waiting", "small_bytes")

    def __init__(self, http2: Http2, limits: Limits, begin: Callable[[Call], None]) -> None:
        self._http2 = http2
        self._limits = limits
        self._begin = begin
        self.small_bytes = min(_SMALL_BYTES, limits.max_send_message_bytes)
        self._full: set[Call] = set()
        self._waiting: deque[Call] = deque()

    def admit(self, call: Call) -> None:
        """Begins a call, now or when there is room."""
        if self._http2.unsent() > self._limits.max_unsent_bytes // 4:
            call.hold(Hold.ADMISSION)
            self._waiting.append(call)
        else:
            self._begin(call)

    def refusal(self, size: int) -> str | None:
        """Tells why an answer of so many bytes is not sent; None if it is."""
        limits = self._limits
        if size > limits.max_send_message_bytes:
            return f"expected an answer of at most {limits.max_send_message_bytes} bytes, got one of {size}"
        if self._http2.unsent() > limits.max_unsent_bytes:
            return f"expected a client that reads its answers, got one that leaves {limits.max_unsent_bytes} bytes"
        return None

    def fill(self, call: Call) -> None:
        """Stops reading from a call whose answers pile up."""
        call.hold(Hold.ROOM)
        self._full.add(call)

    def leave(self, call: Call) -> None:
        """Forgets a call that is gone."""
        self._full.discard(call)

    def look(self) -> None:
        """Lets those go on for whom there is room now."""
        if self._full:
            enough = self._limits.max_call_unsent_bytes // 2
            for call in [call for call in self._full if self._http2.unsent(call.stream) <= enough]:
                self._full.discard(call)
                call.make_room()
        while self._waiting and self._http2.unsent() <= self._limits.max_unsent_bytes // 4:
            call = self._waiting.popleft()
            if not call.cancelled:
                self._begin(call)
                call.release(Hold.ADMISSION)
