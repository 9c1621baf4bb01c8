"""What users are told, besides what Locust itself tells them: options of Locust's command line and of its web page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steersman.client import DEFAULT_ADDRESS

VECTOR_SIZE = 64

SPAWN_RATE = 100
"""Users that come, or go, in a second where a shape says how many there are."""

SHAPE_VARIABLE = "STEERSMAN_LOAD_SHAPE"
"""Environment variable by which the command line tells Locust's file the shape: NAME:USERS:SECONDS."""


@dataclass(frozen=True)
class LoadOptions:
    """What users are told.

    Attributes:
        policy: Address of the policy.
        environment: Gymnasium's id of the environment that they step.
        recording: Recorded observations to be used instead.
        vector_size: Environments of a vectorised actor.
        rate: Requests per second of a paced user.
        slow_seconds: How long a slow reader reads nothing.
        swap_seconds: How long an admin waits between two swaps.
        timeout: Seconds that a request may take, retries included.
    """

    policy: str = "cartpole"
    environment: str = "CartPole-v1"
    recording: Path | None = None
    vector_size: int = VECTOR_SIZE
    rate: float = 10.0
    slow_seconds: float = 2.0
    swap_seconds: float = 10.0
    timeout: float = 10.0


def add_arguments(parser: Any) -> None:  # noqa: ANN401 - Locust's parser
    """Adds the options to Locust's command line."""
    defaults = LoadOptions()
    group = parser.add_argument_group("Steersman")
    group.add_argument("--policy", default=defaults.policy, help="Policy to ask, as NAME or NAME:VERSION.")
    group.add_argument("--environment", default=defaults.environment, help="Gymnasium environment that users step.")
    group.add_argument("--recording", default="", help="Recorded observations instead: .npy, or of `steersman record`.")
    group.add_argument("--vector-size", type=int, default=defaults.vector_size, help="Environments in a message.")
    group.add_argument("--rate", type=float, default=defaults.rate, help="Requests per second of a paced user.")
    group.add_argument("--slow-seconds", type=float, default=defaults.slow_seconds, help="Pause of a slow reader.")
    group.add_argument("--swap-seconds", type=float, default=defaults.swap_seconds, help="Pause of an admin.")
    group.add_argument("--request-timeout", type=float, default=defaults.timeout, help="Seconds for a request.")


def parsed_options(parsed: Any) -> LoadOptions:  # noqa: ANN401 - Locust's namespace
    """Reads the options from what Locust's command line has parsed; the defaults where there is none."""
    if parsed is None:
        return LoadOptions()
    return LoadOptions(
        policy=parsed.policy,
        environment=parsed.environment,
        recording=Path(parsed.recording) if parsed.recording else None,
        vector_size=parsed.vector_size,
        rate=parsed.rate,
        slow_seconds=parsed.slow_seconds,
        swap_seconds=parsed.swap_seconds,
        timeout=parsed.request_timeout,
    )


def address(host: str | None) -> str:
    """Gives the gateway's address from Locust's `--host`, with or without a scheme in front."""
    return (host or DEFAULT_ADDRESS).rpartition("://")[2].rstrip("/")
