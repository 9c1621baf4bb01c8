"""Who plays, found out from what a request names; and how far they are."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager

from services.evaluator.api.requests import WITHOUT_POLICY
from services.evaluator.play.evaluation import Arena, Result, play
from services.evaluator.play.players import SAMPLED, Contestant
from steersman.aio import PolicyClient, PolicyInfo
from steersman.errors import ConnectionLostError, UnavailableError, UnreachableError
from steersman.settings import settings
from steersman.v1 import evaluator_pb2

_PROGRESS_SECONDS = 0.1


async def resolve(policy: str, gateway_address: str) -> PolicyInfo:
    """Finds out which version is meant, and what it takes and gives.

    Raises:
        SteersmanError: What the gateway answers.
    """
    async with PolicyClient(policy, connection=settings().connection(gateway_address)) as client:
        return await client.describe()


async def reference(name: str, info: PolicyInfo, gateway_address: str) -> Contestant:
    """Gives what plays the same episodes as a policy, for comparison.

    Args:
        name: As in `EvaluateRequest.references`.
        info: The policy.
        gateway_address: The gateway.

    Raises:
        SteersmanError: What the gateway answers.
    """
    if name in WITHOUT_POLICY:
        return Contestant(name, spec_of(info))
    if name == SAMPLED:
        return Contestant(name, spec_of(info), _address(info), deterministic=False)
    return greedy(await resolve(name, gateway_address))


def greedy(info: PolicyInfo) -> Contestant:
    """Gives a version that plays its greedy actions."""
    return Contestant(_address(info), spec_of(info), _address(info))


def spec_of(info: PolicyInfo) -> bytes:
    """Gives what a policy takes and gives, serialised."""
    return info.spec.SerializeToString()


def _address(info: PolicyInfo) -> str:
    """Names the version, so that a deployment in the middle cannot mix two of them in one report."""
    return f"{info.name}:{info.version}"


@contextmanager
def gateway_named(address: str) -> Iterator[None]:
    """Says who is not available: to the caller it would look like the evaluator itself."""
    try:
        yield
    except (UnreachableError, ConnectionLostError) as error:
        raise UnavailableError(f"no actions: {error}") from error
    except UnavailableError as error:
        raise UnavailableError(f"no actions from the gateway at {address}: {error}") from error


async def progress(
    arena: Arena, players: Sequence[Result], numbers: range, everybody: Sequence[Result], episodes: int
) -> AsyncGenerator[evaluator_pb2.EvaluationProgress]:
    """Plays episodes, and tells how far everybody is from time to time, and at the end.

    Args:
        arena: Where.
        players: Who plays now.
        numbers: Of the episodes.
        everybody: Who plays in all, the policy first.
        episodes: How many each plays in all.
    """

    def far() -> evaluator_pb2.EvaluationProgress:
        returns = everybody[0].returns
        longest = max((result.longest for result in players), key=lambda entry: entry[1])
        return evaluator_pb2.EvaluationProgress(
            episodes_done=sum(len(result.episodes) for result in everybody),
            episodes_total=episodes * len(everybody),
            steps=sum(result.steps for result in everybody),
            mean_return=sum(returns) / len(returns) if returns else None,
            longest_episode=longest[0],
            longest_episode_steps=longest[1],
        )

    told = time.perf_counter()
    async with aclosing(play(arena, players, numbers)) as news:
        async for _ in news:
            if time.perf_counter() - told >= _PROGRESS_SECONDS:
                told = time.perf_counter()
                yield far()
    yield far()
