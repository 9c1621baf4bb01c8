"""How many users there are, as functions of time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from steersman.errors import InvalidArgumentError


@dataclass(frozen=True)
class Level:
    """A stretch of time with a fixed number of users.

    Attributes:
        users: How many.
        seconds: How long.
        phase: What it is for, such as "ladder", "plateau" or "rest".
    """

    users: int
    seconds: float
    phase: str


class Shape(Protocol):
    """Says how many users there are."""

    def level_at(self, seconds: float) -> Level | None:
        """Gives the level that is on at a time since the beginning; None when all is over."""


@dataclass(frozen=True)
class Levels:
    """Levels one after the other."""

    levels: Sequence[Level]

    def level_at(self, seconds: float) -> Level | None:
        """Gives the level that is on."""
        for level in self.levels:
            if seconds < level.seconds:
                return level
            seconds -= level.seconds
        return None


def ladder(most: int, step_seconds: float, plateau_seconds: float = 0.0, rest_seconds: float = 0.0) -> Levels:
    """Doubles the users from 1 to the most, holds, and ends with one.

    Args:
        most: Users at the top.
        step_seconds: How long each step below it lasts.
        plateau_seconds: How long the top lasts; 0: as long as a step.
        rest_seconds: How long one user stays at the end, to cool down; 0: not at all.
    """
    steps = [2**power for power in range(math.ceil(math.log2(most)) if most > 1 else 0)]
    levels = [Level(users, step_seconds, "ladder") for users in steps]
    levels.append(Level(most, plateau_seconds or step_seconds, "plateau"))
    if rest_seconds:
        levels.append(Level(1, rest_seconds, "rest"))
    return Levels(levels)


def spike(few: int, many: int, calm_seconds: float, spike_seconds: float) -> Levels:
    """Calm, then many users at once, then calm again."""
    calm = Level(few, calm_seconds, "calm")
    return Levels([calm, Level(many, spike_seconds, "spike"), calm])


def soak(users: int, seconds: float) -> Levels:
    """The same users all the time."""
    return Levels([Level(users, seconds, "soak")])


@dataclass(frozen=True)
class Sine:
    """A day in a few minutes: from few users to many and back.

    Attributes:
        few: Users at night.
        many: Users at noon.
        period: Seconds of a day.
        days: How many.
    """

    few: int
    many: int
    period: float
    days: int = 1

    def level_at(self, seconds: float) -> Level | None:
        """Gives the level that is on: another one each second."""
        if seconds >= self.period * self.days:
            return None
        share = (1 - math.cos(2 * math.pi * seconds / self.period)) / 2
        return Level(round(self.few + (self.many - self.few) * share), 1.0, "day")


NAMES = ("ladder", "spike", "sine", "soak")


def named_shape(name: str, users: int, seconds: float) -> Shape:
    """Makes a shape for Locust's own command line.

    Args:
        name: One of `NAMES`.
        users: Users at the most; where there are few, they are a tenth of that.
        seconds: How long all of it lasts.

    Raises:
        InvalidArgumentError: If there is no such shape.
    """
    few = max(1, users // 10)
    match name:
        case "ladder":
            levels = len(ladder(users, 1.0).levels)
            # The plateau lasts as long as two steps, and so does the rest.
            step = seconds / (levels + 3)
            return ladder(users, step, 2 * step, 2 * step)
        case "spike":
            return spike(few, users, seconds / 3, seconds / 3)
        case "sine":
            return Sine(few, users, seconds)
        case "soak":
            return soak(users, seconds)
    raise InvalidArgumentError(f"expected a shape among {', '.join(NAMES)}, got {name!r}")


class Knee:
    """Raises the users until an objective breaks, by half each time; what held last is the capacity.

    Args:
        first: Users to begin with.
        seconds: How long each level lasts.
        holds: Tells, at the end of a level, whether the objective held on it.
        most: Users at which to stop in any case.
    """

    def __init__(self, first: int, seconds: float, holds: Callable[[Level], bool], most: int = 4096) -> None:
        self._seconds = seconds
        self._holds = holds
        self._most = most
        self._level: Level | None = Level(first, seconds, "knee")
        self._began = 0.0
        self.capacity = 0

    def level_at(self, seconds: float) -> Level | None:
        """Gives the level that is on; None once the objective has broken."""
        while self._level is not None and seconds >= self._began + self._seconds:
            self._began += self._seconds
            users = self._level.users
            if not self._holds(self._level):
                self._level = None
            else:
                self.capacity = users
                following = max(users + 1, round(users * 1.5))
                self._level = Level(following, self._seconds, "knee") if following <= self._most else None
        return self._level
