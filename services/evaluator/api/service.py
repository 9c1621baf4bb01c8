"""EvaluatorService: evaluations as streams of progress and, at last, a report."""

from __future__ import annotations

import asyncio
import logging
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any

import grpc

from services.evaluator.api import requests
from services.evaluator.api.shadow import follow_shadow
from services.evaluator.film.filming import film_episodes
from services.evaluator.judge import archive, comparison
from services.evaluator.judge.report import make_report, what_was_cut
from services.evaluator.judge.robustness import arena_with, curves_of, read_disturbances
from services.evaluator.play.evaluation import Arena, Clock, Result, play
from services.evaluator.play.players import SAMPLED, Contestant
from steersman.aio import PolicyClient, PolicyInfo
from steersman.errors import (
    ConnectionLostError,
    DeadlineExceededError,
    SteersmanError,
    UnavailableError,
    UnreachableError,
)
from steersman.settings import settings
from steersman.v1 import common_pb2, evaluator_pb2, evaluator_pb2_grpc

_PROGRESS_SECONDS = 0.1

_log = logging.getLogger(__name__)

_VERDICTS = {
    comparison.Verdict.BETTER: evaluator_pb2.VERDICT_BETTER,
    comparison.Verdict.WORSE: evaluator_pb2.VERDICT_WORSE,
    comparison.Verdict.UNCLEAR: evaluator_pb2.VERDICT_UNCLEAR,
}

_METHODS = {
    comparison.Method.BOOTSTRAP: evaluator_pb2.INTERVAL_METHOD_BOOTSTRAP,
    comparison.Method.STUDENT: evaluator_pb2.INTERVAL_METHOD_STUDENT,
    comparison.Method.EMPIRICAL_BERNSTEIN: evaluator_pb2.INTERVAL_METHOD_EMPIRICAL_BERNSTEIN,
}


class EvaluatorService(evaluator_pb2_grpc.EvaluatorServiceServicer):
    """Serves `steersman.v1.EvaluatorService`; the proto describes its methods.

    Args:
        defaults: What requests leave open.
        keep: Keeps reports; None for nowhere.
    """

    def __init__(self, defaults: requests.Defaults, keep: archive.Archive | None = None) -> None:
        self._defaults = defaults
        self._archive = keep

    async def Evaluate(
        self, request: evaluator_pb2.EvaluateRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[evaluator_pb2.EvaluateResponse]:
        """Plays episodes and reports on them."""
        episodes = requests.number_of_episodes(request)
        names = requests.references(request)
        videos = requests.number_of_videos(request)
        disturbances = read_disturbances(request.disturbances)
        code = await asyncio.to_thread(requests.code_of, request, self._defaults)
        with self._gateway_named():
            info = await self._resolve(request.policy)
            arena = requests.arena_of(request, info.spec.environment_id, code, self._defaults)
            result = Result(_greedy(info))
            others = [Result(await self._reference(name, info)) for name in names]
            harder = [(arena_with(arena, disturbance), Result(_greedy(info))) for disturbance in disturbances]
        played = [(arena, result), *((arena, other) for other in others), *harder]
        everybody = [contestant for _, contestant in played]

        def report_of(problem: str) -> evaluator_pb2.EvaluationReport:
            made = make_report(info, arena, result, others, problem)
            made.robustness.extend(curves_of(request.disturbances, [contestant for _, contestant in harder]))
            return made

        problem: SteersmanError | None = None
        clock = Clock.of(arena)
        try:
            # One after the other, since the latencies of one would be those of all.
            for where, contestant in played:
                if clock.is_over:
                    break
                with self._gateway_named():
                    news = _progress(clock.limited(where), [contestant], range(episodes), everybody, episodes)
                    async with aclosing(news) as told:
                        async for progress in told:
                            yield evaluator_pb2.EvaluateResponse(progress=progress)
        except SteersmanError as error:
            if not result.episodes:
                raise
            problem = error
        except (asyncio.CancelledError, GeneratorExit):
            # Nobody listens any more, but what has been played is kept all the same.
            if self._archive is not None and request.record and result.episodes:
                self._archive.keep_later(lambda: report_of("it was cancelled"))
            raise
        unfinished = what_was_cut(arena, result.cut, episodes - len(result.episodes))
        if not unfinished and any(len(other.episodes) < episodes for other in everybody):
            unfinished = f"the {arena.limits.seconds:g} s were over before everybody had played"
        report = await asyncio.to_thread(report_of, str(problem or unfinished))
        if self._archive is not None and request.record:
            with tempfile.TemporaryDirectory(prefix="steersman-films-") as folder:
                try:
                    if videos and problem is None:
                        async with aclosing(film_episodes(arena, result, videos, Path(folder))) as films:
                            async for video in films:
                                report.videos.append(video)
                except SteersmanError as error:
                    # The numbers are all there; the caller gets them before the error.
                    problem = error
                try:
                    report.artifact_uri = await self._archive.keep(report, Path(folder))
                except OSError as error:
                    # What was measured is told all the same.
                    _log.exception("a report could not be kept")
                    problem = problem or UnavailableError(f"the report could not be kept: {error}")
        yield evaluator_pb2.EvaluateResponse(report=report)
        if problem is not None:
            raise problem

    async def Compare(
        self, request: evaluator_pb2.CompareRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[evaluator_pb2.CompareResponse]:
        """Plays two policies on the same seeds and says which one is better."""
        episodes, rate = requests.number_of_episodes(request), requests.error_rate(request)
        bounds = requests.return_bounds(request)
        code = await asyncio.to_thread(requests.code_of, request, self._defaults)
        with self._gateway_named():
            info = await self._resolve(request.policy)
            arena = requests.arena_of(request, info.spec.environment_id, code, self._defaults)
            named = request.baseline in requests.WITHOUT_POLICY
            baseline_info = (
                PolicyInfo(request.baseline, 0, common_pb2.PolicySpec())
                if named
                else await self._resolve(request.baseline)
            )
            baseline_contestant = Contestant(request.baseline, _spec(info)) if named else _greedy(baseline_info)
            policy, baseline = Result(_greedy(info)), Result(baseline_contestant)
            ends = comparison.looks(episodes, bounded=bounds is not None) if request.sequential else [episodes]
            begin, clock = 0, Clock.of(arena)
            for look, end in enumerate(ends, 1):
                told = _progress(
                    clock.limited(arena), [policy, baseline], range(begin, end), [policy, baseline], episodes
                )
                async with aclosing(told):
                    async for progress in told:
                        yield evaluator_pb2.CompareResponse(progress=progress)
                if clock.is_over:
                    raise DeadlineExceededError(_not_in_time(arena, policy, end))
                found = await asyncio.to_thread(
                    comparison.compare,
                    policy.returns,
                    baseline.returns,
                    rate,
                    look if request.sequential else 0,
                    bounds,
                )
                begin = end
                if found.verdict is not comparison.Verdict.UNCLEAR:
                    break
        yield evaluator_pb2.CompareResponse(
            comparison=evaluator_pb2.Comparison(
                policy=await asyncio.to_thread(
                    make_report, info, arena, policy, problem=what_was_cut(arena, policy.cut)
                ),
                baseline=await asyncio.to_thread(
                    make_report, baseline_info, arena, baseline, problem=what_was_cut(arena, baseline.cut)
                ),
                difference=found.difference,
                difference_interval=evaluator_pb2.Interval(low=found.interval[0], high=found.interval[1]),
                probability_of_improvement=found.probability,
                verdict=_VERDICTS[found.verdict],
                further_pairs=found.further_pairs,
                pairs=len(policy.episodes),
                looks=look,
                interval_method=_METHODS[found.method],
            )
        )

    async def EvaluateShadow(
        self, request: evaluator_pb2.EvaluateShadowRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[evaluator_pb2.EvaluateShadowResponse]:
        """Follows what a shadow does with live requests."""
        with self._gateway_named():
            async with aclosing(follow_shadow(self._defaults.gateway_address, request)) as reports:
                async for report in reports:
                    yield evaluator_pb2.EvaluateShadowResponse(report=report)

    async def _resolve(self, policy: str) -> PolicyInfo:
        """Finds out which version is evaluated, and what it takes and gives."""
        async with PolicyClient(policy, connection=settings().connection(self._defaults.gateway_address)) as client:
            return await client.describe()

    async def _reference(self, name: str, info: PolicyInfo) -> Contestant:
        if name in requests.WITHOUT_POLICY:
            return Contestant(name, _spec(info))
        if name == SAMPLED:
            return Contestant(name, _spec(info), _address(info), deterministic=False)
        return _greedy(await self._resolve(name))

    @contextmanager
    def _gateway_named(self) -> Iterator[None]:
        """Says who is not available: to the caller it would look like the evaluator itself."""
        try:
            yield
        except (UnreachableError, ConnectionLostError) as error:
            raise UnavailableError(f"no actions: {error}") from error
        except UnavailableError as error:
            address = self._defaults.gateway_address
            raise UnavailableError(f"no actions from the gateway at {address}: {error}") from error


def _not_in_time(arena: Arena, policy: Result, end: int) -> str:
    return (
        f"the comparison did not end within {arena.limits.seconds:g} s: {len(policy.episodes)} of {end} episodes of "
        f"{policy.contestant.name} had ended, {policy.cut} of them cut; allow more seconds, or fewer steps for each"
    )


def _address(info: PolicyInfo) -> str:
    """Names the version, so that a deployment in the middle cannot mix two of them in one report."""
    return f"{info.name}:{info.version}"


def _spec(info: PolicyInfo) -> bytes:
    return info.spec.SerializeToString()


def _greedy(info: PolicyInfo) -> Contestant:
    return Contestant(_address(info), _spec(info), _address(info))


async def _progress(
    arena: Arena, players: Sequence[Result], numbers: range, everybody: Sequence[Result], episodes: int
) -> AsyncGenerator[evaluator_pb2.EvaluationProgress]:
    """Plays episodes, and tells how far everybody is from time to time, and at the end."""

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
