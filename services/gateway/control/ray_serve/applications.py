"""Ray Serve's applications as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Any


class State(Enum):
    """How far Ray Serve is with an application."""

    DEPLOYING = "deploying"
    RUNNING = "running"
    FAILED = "failed"
    DELETING = "deleting"


@dataclass(frozen=True, slots=True)
class ApplicationConfig:
    """An application as it was, or is to be, submitted to Ray Serve.

    Attributes:
        name: The application.
        is_policy: Whether it is one of Steersman's.
        json: All of it, in Ray Serve's words, for this package alone.
    """

    name: str
    is_policy: bool
    json: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Application:
    """An application as Ray Serve has it.

    Attributes:
        name: Its name.
        state: How far it is.
        route: Where plain HTTP reaches it, such as "/cartpole"; empty if nowhere, or not known yet.
        is_declared: Whether it was deployed by a config, as Steersman's are. What was deployed by a program
            (`serve.run`) is no part of what is submitted, and not deleted for being left out.
        config: What it was declared with; None for one that a program has deployed, for one that is being deleted, and
            while Ray Serve does not know it.
        failure: Why it failed, without the traceback that may follow; empty if it has not.
        replicas_wanted: How many replicas its deployment "policy" is to have now; None if it has no such deployment.
        replicas_starting: How many of these are starting.
        replicas_stopping: How many of these are stopping.
    """

    name: str
    state: State
    route: str = ""
    is_declared: bool = True
    config: ApplicationConfig | None = None
    failure: str = ""
    replicas_wanted: int | None = None
    replicas_starting: int = 0
    replicas_stopping: int = 0

    @property
    def is_policy(self) -> bool:
        """Whether it is one of Steersman's, and is not being deleted."""
        return (
            self.is_declared and self.state is not State.DELETING and self.config is not None and self.config.is_policy
        )

    @property
    def is_foreign(self) -> bool:
        """Whether it is somebody else's, and is not being deleted."""
        return self.state is not State.DELETING and not self.is_policy and not self.is_unclear

    @property
    def is_unclear(self) -> bool:
        """Whether it cannot be seen whose it is: Ray Serve does not say what it was declared with."""
        return self.state is not State.DELETING and self.is_declared and self.config is None


@dataclass(frozen=True, slots=True)
class Instance:
    """All that runs on one Ray Serve.

    Attributes:
        applications: The applications by name.
        target_capacity: The percentage of replicas that somebody has limited all applications to; None for all.
    """

    applications: Mapping[str, Application] = field(default_factory=lambda: MappingProxyType({}))
    target_capacity: float | None = None
