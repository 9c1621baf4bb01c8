"""What a peer may ask of us: sizes, rates and times."""

from __future__ import annotations

from dataclasses import dataclass

_MIB = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of a server or of a client, for each connection.

    Attributes:
        max_receive_message_bytes: Largest message that is taken, before and after decompression.
        max_send_message_bytes: Largest message that is sent.
        max_metadata_bytes: Most bytes of header fields of one call. A peer that sends many times as much, or far too
            many fields, loses the connection.
        max_concurrent_calls: Calls at once; what comes beyond is refused before it is looked at.
        call_window_bytes: What a peer may send on one call before we have read it.
        connection_window_bytes: What a peer may send on all calls together before we have read it. Calls whose
            handlers do not read hold up the others of their connection only when this is full.
        max_frame_bytes: Largest frame that a peer may send.
        max_partial_bytes: Most bytes of messages that have begun and are not whole, on all calls together.
        max_call_unsent_bytes: With so much of a call's answers waiting to be sent, no more is read from that call.
        max_unsent_bytes: With a quarter of this waiting to be sent on all calls together, new calls wait; a call whose
            answer comes on top of all of it ends with RESOURCE_EXHAUSTED.
        resets: How many calls a peer may reset at once, and for how many more each second. Every deadline that passes
            is a reset.
        pings: How many PING and SETTINGS frames a peer may send between two things that we send, and how many more each
            second.
        greeting_seconds: How long a peer may take to say that it speaks HTTP/2.
        keepalive_seconds: After so long without a byte from the peer, it is asked whether it is there; 0 never asks.
        keepalive_timeout_seconds: How long it may take to answer that.
        max_idle_seconds: A connection without a call for so long is ended; 0 keeps it.
        max_age_seconds: A connection is ended when it is so old, up to a tenth sooner or later; 0 keeps it.
        max_age_grace_seconds: How long calls may go on after that; 0 gives them as long as they take.
        linger_seconds: How long a peer may leave a call half open that we have ended, before it is reset.
    """

    max_receive_message_bytes: int = 4 * _MIB
    max_send_message_bytes: int = 2**31 - 1
    max_metadata_bytes: int = 16 * 1024
    max_concurrent_calls: int = 1024
    call_window_bytes: int = 1 * _MIB
    connection_window_bytes: int = 64 * _MIB
    max_frame_bytes: int = 256 * 1024
    max_partial_bytes: int = 256 * _MIB
    max_call_unsent_bytes: int = 1 * _MIB
    max_unsent_bytes: int = 256 * _MIB
    resets: tuple[int, int] = (5_000, 2_000)
    pings: tuple[int, int] = (1_000, 100)
    greeting_seconds: float = 20.0
    keepalive_seconds: float = 0.0
    keepalive_timeout_seconds: float = 20.0
    max_idle_seconds: float = 0.0
    max_age_seconds: float = 0.0
    max_age_grace_seconds: float = 0.0
    linger_seconds: float = 5.0

    def __post_init__(self) -> None:
        for name, least in (
            ("call_window_bytes", 65_535),
            ("connection_window_bytes", 65_535),
            ("max_frame_bytes", 16_384),
            ("max_concurrent_calls", 1),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"expected {name} of at least {least}, got {getattr(self, name)}")


class RateLimit:
    """A bucket of tokens.

    Args:
        limit: How many there may be at once, and how many come each second.
        now: Seconds of `time.monotonic`.
    """

    __slots__ = ("_burst", "_rate", "_tokens", "_updated")

    def __init__(self, limit: tuple[int, int], now: float) -> None:
        self._burst, self._rate = limit
        self._tokens = float(self._burst)
        self._updated = now

    def refill(self) -> None:
        """Makes as many tokens as there may be."""
        self._tokens = float(self._burst)

    def take(self, now: float) -> bool:
        """Takes a token; tells whether there was one."""
        self._tokens = min(self._burst, self._tokens + (now - self._updated) * self._rate)
        self._updated = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
