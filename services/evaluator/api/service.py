"""EvaluatorService: evaluations as streams of progress and, at last, a report."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import grpc

from services.evaluator.api import requests
from services.evaluator.api.comparing import compare
from services.evaluator.api.contestants import gateway_named, greedy, progress, reference, resolve
from services.evaluator.api.gating import pass_gate
from services.evaluator.api.shadow import follow_shadow
from services.evaluator.film.filming import film_episodes
from services.evaluator.judge import archive
from services.evaluator.judge.report import make_report, what_was_cut
from services.evaluator.judge.robustness import arena_with, curves_of, read_disturbances
from services.evaluator.play.evaluation import Clock, Result
from steersman.errors import SteersmanError, UnavailableError
from steersman.v1 import evaluator_pb2, evaluator_pb2_grpc

_log = logging.getLogger(__name__)


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
        gateway = self._defaults.gateway_address
        with gateway_named(gateway):
            info = await resolve(request.policy, gateway)
            code = await asyncio.to_thread(requests.code_of, request, info, self._defaults)
            arena = requests.arena_of(request, info, code, self._defaults)
            result = Result(greedy(info))
            others = [Result(await reference(name, info, gateway)) for name in names]
            harder = [(arena_with(arena, disturbance), Result(greedy(info))) for disturbance in disturbances]
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
                with gateway_named(gateway):
                    news = progress(clock.limited(where), [contestant], range(episodes), everybody, episodes)
                    async with aclosing(news) as told:
                        async for far in told:
                            yield evaluator_pb2.EvaluateResponse(progress=far)
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
        async with aclosing(compare(request, self._defaults, self._archive)) as events:
            async for event in events:
                if isinstance(event, evaluator_pb2.Comparison):
                    yield evaluator_pb2.CompareResponse(comparison=event)
                else:
                    yield evaluator_pb2.CompareResponse(progress=event)

    async def Gate(
        self, request: evaluator_pb2.GateRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[evaluator_pb2.GateResponse]:
        """Tells whether a version may take the place of another one."""
        async with aclosing(pass_gate(request, self._defaults, self._archive)) as events:
            async for event in events:
                if isinstance(event, evaluator_pb2.GateDecision):
                    yield evaluator_pb2.GateResponse(decision=event)
                else:
                    yield evaluator_pb2.GateResponse(progress=event)

    async def EvaluateShadow(
        self, request: evaluator_pb2.EvaluateShadowRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[evaluator_pb2.EvaluateShadowResponse]:
        """Follows what a shadow does with live requests."""
        with gateway_named(self._defaults.gateway_address):
            async with aclosing(follow_shadow(self._defaults.gateway_address, request)) as reports:
                async for report in reports:
                    yield evaluator_pb2.EvaluateShadowResponse(report=report)
