"""Addresses, channel options and the one retry policy of the client SDK."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Sequence
from dataclasses import dataclass

DEFAULT_ADDRESS = "127.0.0.1:50051"
"""Where a local gateway listens."""

DEFAULT_TIMEOUT_SECONDS = 10.0
"""Deadline of a call, retries included, unless the caller names another."""

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""Largest message that the client takes or gives, as on the server's side."""


@dataclass(frozen=True)
class RetryPolicy:
    """How a call that found nobody to answer, or no room, is sent again; inference is idempotent.

    The terms are gRPC's own (gRFC A6), which carries it out for unary calls: backoff is jittered, stays inside the
    deadline and gives way to the server's `grpc-retry-pushback-ms`. Streams follow the same numbers.

    Attributes:
        max_attempts: Calls in all, the first one included.
        initial_backoff: Seconds before the second call, at most.
        max_backoff: Seconds before any call, at most.
        backoff_multiplier: How backoff grows.
    """

    max_attempts: int = 5
    initial_backoff: float = 0.1
    max_backoff: float = 2.0
    backoff_multiplier: float = 2.0

    def backoff(self, attempt: int) -> float:
        """Draws the seconds to wait before an attempt.

        Args:
            attempt: Counted from 1, which is the first repetition.
        """
        longest = min(self.initial_backoff * self.backoff_multiplier ** (attempt - 1), self.max_backoff)
        return random.uniform(0, longest)  # noqa: S311 - jitter, no secret


RETRY = RetryPolicy()

_SERVICE_CONFIG = {
    # Over one address this is the same as picking it; over several it spreads the calls.
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{"service": "steersman.v1.PolicyService"}],
            "retryPolicy": {
                "maxAttempts": RETRY.max_attempts,
                "initialBackoff": f"{RETRY.initial_backoff}s",
                "maxBackoff": f"{RETRY.max_backoff}s",
                "backoffMultiplier": RETRY.backoff_multiplier,
                # CANCELLED is how gRPC ends a call that reaches a server at the moment in which that shuts down. A call
                # that the caller itself cancels is not sent again.
                "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "CANCELLED"],
            },
        }
    ],
    # When more than about a third of the calls fail, retries stop until it gets better.
    "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.5},
}


def channel_options() -> list[tuple[str, str | int]]:
    """Gives the options of every channel that a client opens."""
    return [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.enable_retries", 1),
        ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
        # A gateway that comes back is found again quickly.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        # A peer that vanished without a word is noticed within half a minute.
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 10_000),
    ]


def channel_target(address: str | Sequence[str]) -> str:
    """Gives gRPC's target for one gateway or several.

    Args:
        address: `host:port`; or several of them, which calls are spread over.

    Raises:
        OSError: If one of several hosts cannot be resolved.
        ValueError: If there is no address, or one of several has no port.
    """
    if isinstance(address, str):
        return address
    if not address:
        raise ValueError("expected at least one address, got none")
    if len(address) == 1:
        return address[0]
    # gRPC takes a list of addresses only as numbers.
    numbers = []
    for entry in address:
        host, _, port = entry.rpartition(":")
        if not host or not port.isdigit():
            raise ValueError(f"expected an address like 127.0.0.1:50051, got {entry!r}")
        numbers.append(f"{socket.gethostbyname(host)}:{port}")
    return "ipv4:" + ",".join(numbers)
