"""A share of an evaluation: what one process plays. It needs nothing but what it is told."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field, replace

from services.common.episodes import NO_LIMITS, Act, Episode, Limits, Rollout
from services.common.light_channel import open_light_channel
from services.evaluator.play.environment_making import Recipe, check_spaces, close_environments, make_environments
from services.evaluator.play.players import RANDOM, ConstantAction, Contestant, RandomActions, Requests, ServedPolicy
from services.evaluator.workers.user_code import enter
from steersman.aio import PolicyClient
from steersman.environments.making import Environment
from steersman.settings import settings
from steersman.v1 import common_pb2

_GROUP = 32
"""Environments of a request, where there are two groups. On two idle cores 64 environments gave 52,000 steps/s as two
groups and 39,000 as one; where others use the cores as well, one larger request is cheaper."""

PULSE_SECONDS = 0.1
"""How often a process says that it is alive, at most."""


@dataclass(frozen=True)
class Share:
    """What one process plays.

    Attributes:
        contestant: Who.
        gateway_address: Whom it asks for actions.
        recipe: What its environments are made from.
        numbers: Of its episodes, at least as many as environments.
        num_environments: How many are stepped side by side.
        seed: Episode i is reset with seed + i.
        limits: When episodes are cut.
    """

    contestant: Contestant
    gateway_address: str
    recipe: Recipe
    numbers: range
    num_environments: int
    seed: int
    limits: Limits = NO_LIMITS


@dataclass(frozen=True)
class News:
    """What has happened since the last news.

    Attributes:
        episodes: Those that have ended.
        steps: Environment steps.
        latencies: Seconds that each request for actions took.
        failed_requests: Requests for actions that failed.
        longest: Number and steps of the episode in progress that has the most steps; zeros if there is none.
    """

    episodes: list[Episode] = field(default_factory=list)
    steps: int = 0
    latencies: list[float] = field(default_factory=list)
    failed_requests: int = 0
    longest: tuple[int, int] = (0, 0)


class _Teller:
    """Collects news, and tells them from time to time.

    Args:
        tell: Takes them.
    """

    def __init__(self, tell: Callable[[News], None]) -> None:
        self._tell = tell
        self._told_at = 0.0
        self._told = (0, 0)
        self._told_episodes: dict[int, int] = {}
        self.rollouts: list[Rollout] = []
        self.requests = Requests()

    def pulse(self) -> None:
        """Tells what there is, if the last news are old enough."""
        if time.perf_counter() - self._told_at >= PULSE_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Tells what there is."""
        episodes = []
        for index, rollout in enumerate(self.rollouts):
            known = self._told_episodes.get(index, 0)
            episodes += rollout.episodes[known:]
            self._told_episodes[index] = len(rollout.episodes)
        steps, failed = sum(rollout.steps for rollout in self.rollouts), self.requests.failed
        latencies, self.requests.latencies = self.requests.latencies, []
        longest = max((rollout.longest for rollout in self.rollouts), key=lambda entry: entry[1], default=(0, 0))
        self._tell(News(episodes, steps - self._told[0], latencies, failed - self._told[1], longest))
        self._told = (steps, failed)
        self._told_at = time.perf_counter()


async def play_share(share: Share, tell: Callable[[News], None]) -> None:
    """Plays a share to its end.

    Many environments are two groups: while one waits for its actions, the other one computes.

    Args:
        share: What to play.
        tell: Told what has happened, about ten times a second, as long as environments return.

    Raises:
        SteersmanError: If an environment cannot be made, does not fit or raises, or there are no actions. What has
            ended by then has been told.
    """
    teller = _Teller(tell)
    environments: list[Environment] = []
    pulses = asyncio.create_task(_pulse(teller))
    try:
        enter(share.recipe.code, share.recipe.modules)
        make_environments(share.recipe, share.num_environments, environments, teller.pulse)
        spec = common_pb2.PolicySpec.FromString(share.contestant.spec)
        check_spaces(environments[0], spec)
        groups = 2 if share.num_environments >= 2 * _GROUP else 1
        # Which group plays which episode is fixed beforehand, as it is for each environment.
        teller.rollouts += [
            Rollout(
                environments[group::groups],
                share.numbers[group::groups],
                share.seed,
                pulse=teller.pulse,
                keep_rows=bool(spec.state_tensors),
                limits=share.limits,
            )
            for group in range(groups)
        ]
        async with AsyncExitStack() as stack:
            players = await _players(share, environments[0], teller.requests, groups, stack)
            async with asyncio.TaskGroup() as tasks:
                for rollout, player in zip(teller.rollouts, players, strict=True):
                    tasks.create_task(_play(rollout, player))
    except ExceptionGroup as group:
        # The first one says it; a second would say the same.
        raise group.exceptions[0] from None
    finally:
        pulses.cancel()
        teller.flush()
        close_environments(environments)


async def _pulse(teller: _Teller) -> None:
    """Tells that this process is alive while it waits for something else than an environment."""
    while True:
        await asyncio.sleep(PULSE_SECONDS)
        teller.pulse()


async def _play(rollout: Rollout, act: Act) -> None:
    async with aclosing(rollout.play(act)) as steps:
        async for _ in steps:
            pass


async def _players(
    share: Share, environment: Environment, requests: Requests, count: int, stack: AsyncExitStack
) -> list[Act]:
    """Makes one player for each group. Each has its own state, seed and stream."""
    contestant = share.contestant
    # Other episodes are drawn for differently, and the same ones in the same way.
    seeds = [share.seed + share.numbers[group] for group in range(count)]
    if contestant.policy:
        connection = replace(settings().connection(share.gateway_address), open_aio_channel=open_light_channel)
        client = await stack.enter_async_context(PolicyClient(contestant.policy, connection=connection))
        info = await client.describe()
        return [
            ServedPolicy(
                await stack.enter_async_context(client.stream()),
                info,
                requests,
                deterministic=contestant.deterministic,
                seed=seed,
            )
            for seed in seeds
        ]
    if contestant.name == RANDOM:
        return [RandomActions(copy.deepcopy(environment.action_space), seed) for seed in seeds]
    return [ConstantAction(environment.action_space) for _ in seeds]
