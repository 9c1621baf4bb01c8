"""What a fault is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from faults.system import System
from steersman.client import DEFAULT_TIMEOUT_SECONDS

NOTICED_SECONDS = 30.0
"""How long the system may take to notice a fault."""


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        name: Its name.
        description: What happens, in a line.
        make: Makes it, and returns when the system is healthy again.
        timeout: Seconds that a request of the load may take.
        hasty_timeout: Seconds that a request of one more client may take, which may fail but not late; None for none.
        longest_gap: Seconds after which somebody must have been answered again.
        breaks_connections: Whether connections of clients break, so that clients that repeat nothing may see failures.
        environment: Environment variables of the clients.
    """

    name: str
    description: str
    make: Callable[[System], Awaitable[None]]
    timeout: float = DEFAULT_TIMEOUT_SECONDS
    hasty_timeout: float | None = None
    longest_gap: float = 10.0
    breaks_connections: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
