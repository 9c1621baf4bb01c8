"""Plays episodes in several environments side by side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from services.evaluator.environments import Environment
from steersman.errors import FailedPreconditionError


class Act(Protocol):
    """Asks a policy for actions."""

    async def __call__(self, observations: npt.NDArray[Any], /) -> npt.NDArray[Any]:
        """Gives one action for each row of the observations."""


@dataclass(frozen=True)
class Episode:
    """One episode that has ended.

    Attributes:
        number: Its number, from 0.
        seed: Seed that the environment was reset with.
        episode_return: Sum of the raw rewards.
        length: Steps.
        terminated: Whether the environment reached a final state.
        truncated: Whether it was cut off.
    """

    number: int
    seed: int
    episode_return: float
    length: int
    terminated: bool
    truncated: bool


class _Player:
    """One environment with its own episodes, fixed beforehand.

    Taking the first episodes to end from environments that run side by side would favour short ones.
    """

    def __init__(self, environment: Environment, numbers: Sequence[int], seed: int) -> None:
        self._environment = environment
        self._numbers = list(numbers)
        self._seed = seed
        self._return = 0.0
        self._length = 0
        self.observation: Any = None

    @property
    def playing(self) -> bool:
        """Whether it has an episode in progress."""
        return bool(self._numbers)

    def reset(self) -> None:
        """Begins its next episode, if it has one left."""
        if self._numbers:
            self._return, self._length = 0.0, 0
            self.observation, _ = self._environment.reset(seed=self._seed + self._numbers[0])

    def step(self, action: Any) -> Episode | None:  # noqa: ANN401 - of the environment's own type
        """Takes a step and gives the episode, if that was its last one; then the next one has begun."""
        self.observation, reward, terminated, truncated, _ = self._environment.step(action)
        self._return += float(reward)
        self._length += 1
        if not (terminated or truncated):
            return None
        number = self._numbers.pop(0)
        ended = Episode(number, self._seed + number, self._return, self._length, bool(terminated), bool(truncated))
        self.reset()
        return ended


class Rollout:
    """Plays a fixed number of episodes.

    Args:
        environments: Where; each plays its own share.
        episodes: How many, at least as many as environments.
        seed: Episode i is reset with seed + i.

    Attributes:
        episodes: Those that have ended so far, in the order of their numbers at the end.
        steps: Environment steps so far.
    """

    def __init__(self, environments: Sequence[Environment], episodes: int, seed: int) -> None:
        count = len(environments)
        self._players = [
            _Player(environment, range(index, episodes, count), seed) for index, environment in enumerate(environments)
        ]
        self.episodes: list[Episode] = []
        self.steps = 0

    async def play(self, act: Act) -> AsyncGenerator[None]:
        """Plays to the end, and yields after each step of all environments.

        Environments are stepped in a thread, since they may compute for long; every step asks for all actions at once.

        Args:
            act: Asks the policy.

        Raises:
            FailedPreconditionError: If an environment raises; its error is in the message.
            SteersmanError: What `act` raises.
        """
        await asyncio.to_thread(_guarded, self._reset)
        while playing := [player for player in self._players if player.playing]:
            actions = await act(np.stack([player.observation for player in playing]))
            await asyncio.to_thread(_guarded, self._step, playing, actions)
            self.steps += len(playing)
            yield
        self.episodes.sort(key=lambda episode: episode.number)

    def _reset(self) -> None:
        for player in self._players:
            player.reset()

    def _step(self, playing: list[_Player], actions: npt.NDArray[Any]) -> None:
        for player, action in zip(playing, actions, strict=True):
            ended = player.step(action)
            if ended is not None:
                self.episodes.append(ended)


def _guarded(function: Any, *arguments: Any) -> None:  # noqa: ANN401 - any function
    """Calls what runs an environment's own code, and names that where it raises."""
    try:
        function(*arguments)
    except Exception as error:
        raise FailedPreconditionError(f"the environment raised {type(error).__name__}: {error}") from error
