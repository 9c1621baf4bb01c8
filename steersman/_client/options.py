"""How a client is connected to gateways: addresses, limits, and the one retry policy."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import grpc

from steersman import addresses
from steersman.errors import MAX_MESSAGE_VARIABLE, InvalidArgumentError

DEFAULT_ADDRESS = "127.0.0.1:50051"
"""Where a local gateway listens."""

DEFAULT_TIMEOUT_SECONDS = 10.0
"""Deadline of a call, repetitions included, unless the caller names another."""

DEFAULT_MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""Largest message, as on the server's side."""

_FEWEST_BYTES, _MOST_BYTES = 1024, 2**31 - 1


@dataclass(frozen=True)
class RetryPolicy:
    """How a call that found nobody to answer, or no room, is sent again; inference is idempotent.

    The terms are gRPC's own (gRFC A6): backoff is jittered, stays inside the deadline and gives way to the server's
    `grpc-retry-pushback-ms`.

    Attributes:
        max_attempts: Calls in all, the first one included. 1 repeats nothing.
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


def _max_message_bytes() -> int:
    """Reads the limit from the environment, as the servers' settings do.

    Raises:
        InvalidArgumentError: If it is no number of bytes.
    """
    text = os.environ.get(MAX_MESSAGE_VARIABLE, str(DEFAULT_MAX_MESSAGE_BYTES))
    try:
        return int(text)
    except ValueError:
        raise InvalidArgumentError(f"expected {MAX_MESSAGE_VARIABLE} to be a number of bytes, got {text!r}") from None


@dataclass(frozen=True)
class ConnectionOptions:
    """Where gateways are, and how they are spoken to.

    Attributes:
        addresses: `host:port`, `[::1]:port` or `unix:/path`; or several `host:port`, which calls are spread over. Names
            are looked up again when connections break, so that a gateway may come back under another number.
        timeout: Seconds that a call may take, repetitions included, unless it is given others.
        connect_timeout: Seconds after which a server that takes a connection, but says nothing, is given up.
        max_message_bytes: Largest message that is sent or taken. Default: the environment variable
            STEERSMAN_MAX_MESSAGE_BYTES, or 64 MiB. The server has a limit of its own, by the same setting.
        retry: How calls of `PolicyService` are sent again.
        own_connections: Whether to connect apart from other channels of this process, which else share connections to
            the same address.
        open_aio_channel: Makes the channel of asyncio clients and streams from these options, such as one with
            interceptors of one's own, which then looks after names and proxies itself; None for gRPC's. It is closed
            with what uses it.
    """

    addresses: Sequence[str] = (DEFAULT_ADDRESS,)
    timeout: float = DEFAULT_TIMEOUT_SECONDS
    connect_timeout: float = 5.0
    max_message_bytes: int = field(default_factory=_max_message_bytes)
    retry: RetryPolicy = RetryPolicy()
    own_connections: bool = False
    open_aio_channel: Callable[[ConnectionOptions], grpc.aio.Channel] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            InvalidArgumentError: If one makes no sense.
        """
        if isinstance(self.addresses, str):
            raise InvalidArgumentError(f"expected a sequence of addresses, got the text {self.addresses!r}")
        if not self.addresses:
            raise InvalidArgumentError("expected at least one address, got none")
        object.__setattr__(self, "addresses", tuple(self.addresses))
        for address in self.addresses:
            if len(self.addresses) > 1 or not is_target(address):
                addresses.host_port(address)
        if not (self.timeout > 0 and self.connect_timeout > 0):
            raise InvalidArgumentError(
                f"expected timeouts above 0 s, got {self.timeout:g} s and {self.connect_timeout:g} s to connect"
            )
        if not _FEWEST_BYTES <= self.max_message_bytes <= _MOST_BYTES:
            raise InvalidArgumentError(
                f"expected a limit for messages of {_FEWEST_BYTES} to {_MOST_BYTES} bytes, "
                f"got {self.max_message_bytes} bytes"
            )

    @property
    def where(self) -> str:
        """The addresses in words."""
        return " and ".join(self.addresses)


def with_overrides(
    connection: ConnectionOptions | None, address: str | Sequence[str] | None, timeout: float | None
) -> ConnectionOptions:
    """Puts what a client was told into one.

    Args:
        connection: The options; the defaults if None.
        address: Another address, or several; those of the options if None.
        timeout: Another timeout in seconds; that of the options if None.

    Raises:
        InvalidArgumentError: If a value makes no sense.
    """
    options = connection or ConnectionOptions()
    if address is not None:
        options = replace(options, addresses=(address,) if isinstance(address, str) else address)
    return options if timeout is None else replace(options, timeout=timeout)


def is_target(address: str) -> bool:
    """Tells whether an address is passed on to gRPC as it is: a Unix socket, or a target with a scheme of gRPC's own.

    `dns://SERVER/HOST:PORT` asks a name server of one's own.
    """
    return addresses.is_unix(address) or address.startswith(("dns:", "ipv4:", "ipv6:"))
