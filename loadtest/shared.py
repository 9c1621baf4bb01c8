"""What all users of a process share; it travels with Locust's environment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from loadtest.bridge import Bridge
from loadtest.options import LoadOptions, parsed_options

_ATTRIBUTE = "steersman"


def _ignore(_: int) -> None:
    """Counts nothing."""


@dataclass
class Shared:
    """What users share.

    Attributes:
        options: What they are told.
        bridge: The event loop that their clients are on.
        missed: Told, after each request of a paced user, how many more it would have had time for.
    """

    options: LoadOptions
    bridge: Bridge
    missed: Callable[[int], None] = _ignore


def share(environment: Any, shared: Shared) -> None:  # noqa: ANN401 - Locust's environment, which is to hold it
    """Gives the users of an environment what they share."""
    setattr(environment, _ATTRIBUTE, shared)


def shared_by(environment: Any) -> Shared:  # noqa: ANN401 - likewise
    """Gives what users share; where nobody has said what, as with Locust's own command line, from its options.

    Only once there are users: processes that Locust forks each make their own.
    """
    found: Shared | None = getattr(environment, _ATTRIBUTE, None)
    if found is None:
        found = Shared(parsed_options(environment.parsed_options), Bridge())
        share(environment, found)
    return found
