"""Plays episodes in several environments side by side: the one player, of evaluations and of training runs.

It asks nobody itself. Whoever plays gets a `Step` from `asks`, finds actions for it, and hands them to `take`.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from steersman.causes import in_words
from steersman.environments.making import Environment
from steersman.environments.raw_rewards import RAW_REWARD
from steersman.errors import FailedPreconditionError, SteersmanError


@dataclass(frozen=True)
class Step:
    """What is known when actions are asked for, for each environment that is asked for.

    Attributes:
        observations: What the environments show.
        rewards: The rewards of the step before, 0 where an episode begins. Shape [environments], float32.
        begins: Whether an episode begins. Shape [environments].
    """

    observations: Sequence[Any]
    rewards: npt.NDArray[np.float32]
    begins: npt.NDArray[np.bool_]


class Act(Protocol):
    """Asks a policy for actions."""

    async def __call__(self, step: Step, /) -> Iterable[Any]:
        """Gives one action for each of a step's observations."""


@dataclass(frozen=True)
class Limits:
    """What keeps episodes without an end from being played for ever.

    Attributes:
        steps: Steps after which an episode that has not ended is cut; 0 for no limit.
        seconds: Seconds after which all episodes in progress are cut, and no further one is begun; 0 for no limit.
    """

    steps: int = 0
    seconds: float = 0.0


NO_LIMITS = Limits()


@dataclass(frozen=True)
class Episode:
    """One episode that has ended, or was cut.

    Attributes:
        number: Its number, from 0.
        seed: Seed that the environment was reset with.
        episode_return: Sum of the raw rewards.
        length: Steps.
        terminated: Whether the environment reached a final state.
        truncated: Whether the environment cut it off.
        success: Whether it succeeded; None where the environment does not say.
        cut: Whether it had not ended when the player cut it.
    """

    number: int
    seed: int
    episode_return: float
    length: int
    terminated: bool
    truncated: bool
    success: bool | None = None
    cut: bool = False


class _Player:
    """One environment with its own episodes, fixed beforehand.

    Taking the first episodes to end from environments that run side by side would favour short ones.
    """

    def __init__(self, environment: Environment, numbers: Sequence[int], seed: int) -> None:
        self._environment = environment
        self._numbers = iter(numbers)
        self._number: int | None = None
        self._seed = seed
        self.episode_return = 0.0
        self._length = 0
        self.observation: Any = None
        self.reward = 0.0

    @property
    def playing(self) -> bool:
        """Whether it has an episode in progress."""
        return self._number is not None

    @property
    def number(self) -> int | None:
        """Its episode in progress."""
        return self._number

    @property
    def length(self) -> int:
        """Steps of that episode so far."""
        return self._length

    @property
    def begins(self) -> bool:
        """Whether its episode has not had a step yet."""
        return self._length == 0

    def reset(self) -> None:
        """Begins its next episode, if it has one left."""
        self._number = next(self._numbers, None)
        if self._number is not None:
            self.episode_return, self._length, self.reward = 0.0, 0, 0.0
            self.observation, _ = self._environment.reset(seed=self._seed + self._number)

    def step(self, action: Any, longest: int) -> Episode | None:  # noqa: ANN401 - of the environment's own type
        """Takes a step and gives the episode, if that was its last one; then the next one has begun."""
        self.observation, reward, terminated, truncated, info = self._environment.step(action)
        self.reward = float(reward)
        self.episode_return += info.get(RAW_REWARD, self.reward)
        self._length += 1
        cut = bool(longest) and self._length >= longest and not (terminated or truncated)
        if not (terminated or truncated or cut):
            return None
        ended = self._ended(terminated=bool(terminated), truncated=bool(truncated), success=_success(info), cut=cut)
        self.reset()
        return ended

    def stop(self) -> Episode | None:
        """Plays no more, and gives the episode in progress as one that was cut; None if that has had no step yet."""
        if self._number is None:
            return None
        if self._length == 0:
            self._number = None
            return None
        ended = self._ended(terminated=False, truncated=False, success=None, cut=True)
        self._number = None
        return ended

    def _ended(self, *, terminated: bool, truncated: bool, success: bool | None, cut: bool) -> Episode:
        number = self._number
        assert number is not None  # noqa: S101 - only those that are playing are stepped
        seed = self._seed + number
        return Episode(number, seed, self.episode_return, self._length, terminated, truncated, success, cut)


class Rollout:
    """Plays a fixed number of episodes.

    Args:
        environments: Where; each plays its own share.
        numbers: Of the episodes, at least as many as environments.
        seed: Episode i is reset with seed + i.
        pulse: Called before each reset and step of an environment, so that one that does not return can be noticed.
        keep_rows: Whether every request has a row for each environment, also for those that have no episode left, whose
            actions are then dropped. For policies with memory: the state that they hand on has the rows of its request.
        limits: When episodes are cut.

    Attributes:
        episodes: Those that have ended so far, in the order in which they ended.
        steps: Environment steps so far.
    """

    def __init__(
        self,
        environments: Sequence[Environment],
        numbers: Sequence[int],
        seed: int,
        *,
        pulse: Callable[[], None] = lambda: None,
        keep_rows: bool = False,
        limits: Limits = NO_LIMITS,
    ) -> None:
        count = len(environments)
        self._players = [
            _Player(environment, numbers[index::count], seed) for index, environment in enumerate(environments)
        ]
        self._pulse = pulse
        self._keep_rows = keep_rows
        self._limits = limits
        self._ends_at = math.inf
        self._rows: list[_Player] = []
        self.episodes: list[Episode] = []
        self.steps = 0

    @property
    def returns_so_far(self) -> list[float]:
        """The sum of rewards of each environment's episode."""
        return [player.episode_return for player in self._players]

    @property
    def longest(self) -> tuple[int, int]:
        """The number and the steps of the episode in progress that has the most; zeros if there is none."""
        playing = [(player.length, player.number) for player in self._players if player.number is not None]
        length, number = max(playing, default=(0, 0))
        return number, length

    async def play(self, act: Act) -> AsyncGenerator[None]:
        """Plays to the end, and yields after each step of all environments.

        Every step asks for all actions at once. Environments compute on the event loop, which is why rollouts belong in
        processes of their own.

        Args:
            act: Asks the policy.

        Raises:
            FailedPreconditionError: If an environment raises; its error is in the message.
            SteersmanError: What `act` raises.
        """
        self.begin()
        while (step := self.asks()) is not None:
            self.take(await act(step))
            yield

    def begin(self) -> None:
        """Begins the first episode of each environment.

        Raises:
            FailedPreconditionError: If an environment raises; its error is in the message.
        """
        if self._limits.seconds:
            self._ends_at = time.monotonic() + self._limits.seconds
        with _environments_named():
            for player in self._players:
                self._pulse()
                player.reset()

    def asks(self) -> Step | None:
        """Gives what actions are asked for; None when all episodes have ended."""
        playing = [player for player in self._players if player.playing]
        if not playing:
            return None
        self._rows = self._players if self._keep_rows else playing
        return Step(
            observations=[player.observation for player in self._rows],
            rewards=np.array([player.reward for player in self._rows], np.float32),
            begins=np.array([player.begins for player in self._rows]),
        )

    def take(self, actions: Iterable[Any]) -> None:
        """Takes a step in each environment that plays.

        Args:
            actions: One for each of the observations that `asks` gave.

        Raises:
            FailedPreconditionError: If an environment raises; its error is in the message.
        """
        with _environments_named():
            for player, action in zip(self._rows, actions, strict=True):
                if player.playing:
                    self._pulse()
                    self.steps += 1
                    ended = player.step(action, self._limits.steps)
                    if ended is not None:
                        self.episodes.append(ended)
        if time.monotonic() >= self._ends_at:
            self.stop()

    def stop(self) -> None:
        """Cuts the episodes in progress, and begins no further one."""
        self.episodes += [ended for player in self._players if (ended := player.stop()) is not None]


def _success(info: Mapping[str, Any]) -> bool | None:
    """Reads what environments say of their success, in the two words that are in use."""
    for name in ("is_success", "success"):
        if name in info:
            return bool(info[name])
    return None


@contextmanager
def _environments_named() -> Iterator[None]:
    """Says that it was an environment's own code that raised."""
    try:
        yield
    except SteersmanError:
        # It says what is wrong with the environment.
        raise
    except Exception as error:
        raise FailedPreconditionError(f"the environment raised {in_words(error)}") from error
