"""Films episodes of a report by playing them again, each in a worker process: rendering is foreign code, too."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from services.common.episodes import Episode, Limits, Rollout, Step
from services.evaluator.film.pictures import UNFINISHED, Darkroom
from services.evaluator.play.environment_making import close_environments, make_environments
from services.evaluator.play.evaluation import Arena, Result
from services.evaluator.play.players import Requests, ServedPolicy
from services.evaluator.play.shares import PULSE_SECONDS, Share
from services.evaluator.workers.processes import in_processes
from services.evaluator.workers.user_code import enter
from steersman.aio import PolicyClient
from steersman.causes import in_words
from steersman.environments.making import Environment
from steersman.errors import FailedPreconditionError
from steersman.extras import ACTION_DISTRIBUTION_INPUTS
from steersman.settings import settings
from steersman.v1 import common_pb2, evaluator_pb2

_PICTURES_PER_SECOND = 30
_AT_ONCE = 2
# Nothing has a screen or a loudspeaker here; pygame would look for both.
_HEADLESS = {"SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy", "PYGAME_HIDE_SUPPORT_PROMPT": "1"}


@dataclass(frozen=True)
class Take:
    """One episode that is to be filmed.

    Attributes:
        share: One environment, one episode.
        length: Of the episode, as far as is known.
        path: Of the files, without suffix.
    """

    share: Share
    length: int
    path: Path


def chosen(episodes: Sequence[Episode], count: int) -> list[Episode]:
    """Chooses episodes, spread evenly over the order of their returns, the highest first.

    Args:
        episodes: At least one.
        count: How many, at least 1: 1 is the median, 2 the best and the worst, 3 all of these.
    """
    ranked = sorted(episodes, key=lambda episode: (-episode.episode_return, episode.number))
    last = len(ranked) - 1
    places = [last / 2] if count == 1 else np.linspace(0, last, min(count, len(ranked)))
    return [ranked[round(place)] for place in places]


async def film_episodes(arena: Arena, result: Result, count: int, folder: Path) -> AsyncGenerator[evaluator_pb2.Video]:
    """Films some of the episodes that a policy has played.

    The policy is asked again, with the seed of the episode: what it thinks of each picture is not known otherwise. The
    video says if that did not give the same episode again.

    Args:
        arena: Where.
        result: What was played.
        count: How many to film.
        folder: Where files are written.

    Raises:
        SteersmanError: See `in_processes`; `FailedPreconditionError` if the environment draws no pictures.
    """
    recipe = replace(arena.recipe, rendered=True)
    takes = {
        episode.number: Take(
            Share(
                result.contestant,
                arena.gateway_address,
                recipe,
                range(episode.number, episode.number + 1),
                1,
                arena.seed,
                # One that was cut ends where it did.
                Limits(episode.length if episode.cut else arena.limits.steps),
            ),
            episode.length,
            folder / f"episode-{episode.number}",
        )
        for episode in chosen(result.in_order, count)
    }
    numbers = list(takes)
    for first in range(0, len(numbers), _AT_ONCE):
        now = numbers[first : first + _AT_ONCE]
        seen: dict[int, Episode] = {}
        works = in_processes([takes[number] for number in now], film, arena.step_seconds)
        try:
            async with aclosing(works) as news:
                async for index, episode in news:
                    if episode is not None:
                        seen[now[index]] = episode
        finally:
            # The processes have ended, perhaps in the middle of a film.
            _remove_unfinished(folder)
        for number in now:
            yield _video(takes[number], result.episodes[number], seen[number])


async def film(take: Take, tell: Callable[[Episode | None], None]) -> None:
    """Plays an episode again and films it: the work of one process.

    Args:
        take: Which.
        tell: Told None now and then, as a sign of life, and at last the episode.

    Raises:
        SteersmanError: If the environment cannot be made, raises or draws no pictures, or there are no actions.
    """
    os.environ.update({name: value for name, value in _HEADLESS.items() if name not in os.environ})
    share = take.share
    environments: list[Environment] = []
    pulses = asyncio.create_task(_pulse(tell))
    try:
        enter(share.recipe.code, share.recipe.modules)
        await asyncio.to_thread(make_environments, share.recipe, 1, environments)
        spec = common_pb2.PolicySpec.FromString(share.contestant.spec)
        rollout = Rollout(
            environments, share.numbers, share.seed, pulse=lambda: tell(None), keep_rows=True, limits=share.limits
        )
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(
                PolicyClient(share.contestant.policy, connection=settings().connection(share.gateway_address))
            )
            policy = ServedPolicy(
                await stack.enter_async_context(client.stream()),
                await client.describe(),
                Requests(),
                deterministic=share.contestant.deterministic,
                seed=share.seed + share.numbers[0],
                extras=[ACTION_DISTRIBUTION_INPUTS]
                if any(extra.name == ACTION_DISTRIBUTION_INPUTS for extra in spec.extra_tensors)
                else [],
            )
            camera = _Camera(take, spec, environments[0], rollout, policy)
            async with aclosing(rollout.play(camera)) as steps:
                async for _ in steps:
                    pass
            await asyncio.to_thread(camera.finish)
        tell(rollout.episodes[0])
    finally:
        pulses.cancel()
        close_environments(environments)


class _Camera:
    """Asks the policy, and films what it sees and does."""

    def __init__(
        self,
        take: Take,
        spec: common_pb2.PolicySpec,
        environment: Environment,
        rollout: Rollout,
        policy: ServedPolicy,
    ) -> None:
        # Slow to import, and needed only by those who film.
        from services.evaluator.film.film import Film, probabilities_of

        self._darkroom = Darkroom(environment.spec.id if environment.spec else str(environment))
        self._probabilities_of = probabilities_of
        self._spec, self._environment, self._rollout, self._policy = spec, environment, rollout, policy
        number = take.share.numbers[0]
        self._title = f"{take.share.contestant.name}   episode {number}, seed {take.share.seed + number}"
        self._step = 0
        rate = float(environment.metadata.get("render_fps") or _PICTURES_PER_SECOND)
        bars = [each.kind for each in spec.action_distributions] == ["categorical"]
        self._film = Film(take.path, rate, take.length + 1, 2, bars=bars)

    async def __call__(self, step: Step) -> Iterable[Any]:
        """Gives the action, like the policy itself."""
        from services.evaluator.film.film import Caption

        actions = await self._policy(step)
        inputs = self._policy.extras.get(ACTION_DISTRIBUTION_INPUTS)
        probabilities = self._probabilities_of(self._spec, inputs)
        took = int(actions[0]) - self._first_action if probabilities else None
        words = "" if probabilities else f"   action {_in_words(actions[0])}"
        caption = Caption([self._title, self._line(self._rollout.returns_so_far[0]) + words], probabilities, took)
        self._film.add(self._picture(), caption)
        self._step += 1
        return actions

    def finish(self) -> None:
        """Films the end, and closes the film."""
        from services.evaluator.film.film import Caption

        episode = self._rollout.episodes[0]
        end = "terminated" if episode.terminated else "truncated"
        line = f"{self._line(episode.episode_return)}   {end}"
        self._film.add(self._picture(), Caption([self._title, line]), last=True)
        self._film.close()

    @property
    def _first_action(self) -> int:
        return int(self._spec.action_space.discrete.start)

    def _line(self, so_far: float) -> str:
        return f"step {self._step}   return {so_far:.6g}"

    def _picture(self) -> Any:  # noqa: ANN401 - see `Darkroom`
        try:
            drawn: object = self._environment.render()
        except Exception as error:
            raise FailedPreconditionError(f"the environment raised {in_words(error)} when it was drawn") from error
        return self._darkroom.develop(drawn)


def _remove_unfinished(folder: Path) -> None:
    for file in folder.glob(f"*{UNFINISHED}"):
        file.unlink()


async def _pulse(tell: Callable[[None], None]) -> None:
    while True:
        await asyncio.sleep(PULSE_SECONDS)
        tell(None)


def _in_words(action: Any) -> str:  # noqa: ANN401 - of the environment's own type
    if isinstance(action, dict | tuple):
        return str(action)[:60]
    return np.array2string(np.asarray(action), precision=2, separator=", ", threshold=6)[:60].replace("\n", "")


def _video(take: Take, played: Episode, seen: Episode) -> evaluator_pb2.Video:
    return evaluator_pb2.Video(
        episode=played.number,
        files=[f"{take.path.name}.mp4", f"{take.path.name}.gif"],
        episode_return=seen.episode_return,
        length=seen.length,
        exact=seen == played,
    )
