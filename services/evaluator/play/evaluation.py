"""Evaluations: contestants play the same episodes, in worker processes or Ray tasks."""

from __future__ import annotations

import math
import os
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from services.common.episodes import NO_LIMITS, Episode, Limits
from services.evaluator.play.environment_making import Recipe
from services.evaluator.play.players import Contestant
from services.evaluator.play.shares import Share, play_share
from services.evaluator.workers.processes import in_processes
from services.evaluator.workers.ray_tasks import in_tasks
from steersman.errors import InternalError

_ENVIRONMENTS_PER_WORKER = 64
_MOMENT = 1e-3


@dataclass(frozen=True)
class Arena:
    """Where and how is played.

    Attributes:
        gateway_address: Whom contestants ask for actions.
        recipe: What environments are made from.
        seed: Episode i is reset with seed + i.
        num_environments: How many are stepped side by side, for each contestant.
        num_workers: Processes or tasks for each contestant; 0 for as many as make sense.
        step_seconds: How long an environment may take for a reset or a step.
        ray_address: Where Ray's tasks are the workers, its head; empty for processes of this machine.
        limits: When episodes are cut; the seconds are those of everything that is played.
    """

    gateway_address: str
    recipe: Recipe
    seed: int
    num_environments: int
    num_workers: int
    step_seconds: float
    ray_address: str = ""
    limits: Limits = NO_LIMITS

    def shares(self, contestant: Contestant, numbers: range) -> list[Share]:
        """Splits episodes over worker processes; which environment plays which episode is thereby fixed."""
        environments = min(self.num_environments, len(numbers))
        sensible = math.ceil(environments / _ENVIRONMENTS_PER_WORKER)
        if not self.ray_address:
            sensible = min(os.cpu_count() or 1, sensible)
        workers = min(self.num_workers or sensible, environments)
        return [
            Share(
                contestant,
                self.gateway_address,
                self.recipe,
                numbers[worker::workers],
                len(range(worker, environments, workers)),
                self.seed,
                self.limits,
            )
            for worker in range(workers)
        ]


@dataclass(frozen=True)
class Clock:
    """The time that everything of a request may take together.

    Attributes:
        ends_at: When it is over, in seconds of `time.monotonic`; infinite without a limit.
    """

    ends_at: float

    @classmethod
    def of(cls, arena: Arena) -> Clock:
        """Starts it for an arena's limit."""
        return cls(time.monotonic() + arena.limits.seconds if arena.limits.seconds else math.inf)

    @property
    def is_over(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() >= self.ends_at

    def limited(self, arena: Arena) -> Arena:
        """Gives an arena with what is left of the time, at least a moment."""
        if math.isinf(self.ends_at):
            return arena
        left = max(_MOMENT, self.ends_at - time.monotonic())
        return replace(arena, limits=replace(arena.limits, seconds=left))


@dataclass
class Result:
    """What a contestant has played so far.

    Attributes:
        contestant: Who.
        episodes: Those that have ended, by number.
        steps: Environment steps.
        latencies: Seconds that each request for actions took.
        failed_requests: Requests for actions that failed.
        seconds: How long it took.
        longest: Number and steps of the episode in progress that has the most steps; zeros if there is none.
    """

    contestant: Contestant
    episodes: dict[int, Episode] = field(default_factory=dict)
    steps: int = 0
    latencies: list[float] = field(default_factory=list)
    failed_requests: int = 0
    seconds: float = 0.0
    longest: tuple[int, int] = (0, 0)

    @property
    def cut(self) -> int:
        """Episodes that were cut."""
        return sum(episode.cut for episode in self.episodes.values())

    @property
    def in_order(self) -> list[Episode]:
        """The episodes in the order of their numbers."""
        return [self.episodes[number] for number in sorted(self.episodes)]

    @property
    def returns(self) -> list[float]:
        """The returns in the order of the episodes' numbers."""
        return [episode.episode_return for episode in self.in_order]


async def play(arena: Arena, results: Sequence[Result], numbers: range) -> AsyncGenerator[None]:
    """Lets contestants play the same episodes, all at the same time.

    Args:
        arena: Where and how.
        results: The contestants; what they play is added. What is there when this raises has really been played.
        numbers: Of the episodes.

    Yields:
        Whenever there is something new.

    Raises:
        SteersmanError: See `in_processes` and `in_tasks`; `InternalError` if an episode is missing in the end that was
            not left out for want of time.
    """
    shares, owners = [], []
    for result in results:
        for share in arena.shares(result.contestant, numbers):
            shares.append(share)
            owners.append(result)
    before = [result.seconds for result in results]
    began = time.perf_counter()
    if arena.ray_address:
        works = in_tasks(shares, play_share, arena.step_seconds, arena.ray_address)
    else:
        works = in_processes(shares, play_share, arena.step_seconds)
    async with aclosing(works) as news:
        async for index, message in news:
            owner = owners[index]
            owner.episodes.update((episode.number, episode) for episode in message.episodes)
            owner.steps += message.steps
            owner.latencies += message.latencies
            owner.failed_requests += message.failed_requests
            owner.longest = message.longest
            for result, seconds in zip(results, before, strict=True):
                result.seconds = seconds + time.perf_counter() - began
            yield
    if arena.limits.seconds and time.perf_counter() - began >= arena.limits.seconds:
        return
    for result in results:
        # Numbers that are published must not rest on all but some of the episodes.
        if missing := [number for number in numbers if number not in result.episodes]:
            raise InternalError(
                f"expected {len(numbers)} episodes of {result.contestant.name}, {len(missing)} are missing"
            )
