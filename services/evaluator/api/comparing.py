"""Comparisons: two contestants play the same episodes, until it is clear which one is better."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from services.evaluator.api import contestants, requests
from services.evaluator.judge import archive, comparison
from services.evaluator.judge.report import make_report, what_was_cut
from services.evaluator.play.evaluation import Arena, Clock, Result
from services.evaluator.play.players import Contestant
from steersman.aio import PolicyInfo
from steersman.errors import DeadlineExceededError
from steersman.v1 import common_pb2, evaluator_pb2

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


async def compare(
    request: evaluator_pb2.CompareRequest, defaults: requests.Defaults, keep: archive.Archive | None
) -> AsyncGenerator[evaluator_pb2.EvaluationProgress | evaluator_pb2.Comparison]:
    """Compares two policies.

    Args:
        request: Which ones, and how.
        defaults: What the request leaves open.
        keep: Where comparisons are kept; None for nowhere.

    Yields:
        How far it is, and at last the comparison.

    Raises:
        SteersmanError: See `EvaluatorService.Compare` in the protos.
    """
    episodes, rate = requests.number_of_episodes(request), requests.error_rate(request)
    bounds = requests.return_bounds(request)
    with contestants.gateway_named(defaults.gateway_address):
        info = await contestants.resolve(request.policy, defaults.gateway_address)
        code = await asyncio.to_thread(requests.code_of, request, info, defaults)
        arena = requests.arena_of(request, info, code, defaults)
        named = request.baseline in requests.WITHOUT_POLICY
        baseline_info = (
            PolicyInfo(request.baseline, 0, common_pb2.PolicySpec())
            if named
            else await contestants.resolve(request.baseline, defaults.gateway_address)
        )
        policy = Result(contestants.greedy(info))
        baseline = Result(
            Contestant(request.baseline, contestants.spec_of(info)) if named else contestants.greedy(baseline_info)
        )
        ends = comparison.looks(episodes, bounded=bounds is not None) if request.sequential else [episodes]
        begin, clock = 0, Clock.of(arena)
        for look, end in enumerate(ends, 1):
            both = [policy, baseline]
            news = contestants.progress(clock.limited(arena), both, range(begin, end), both, episodes)
            async with aclosing(news) as told:
                async for progress in told:
                    yield progress
            if clock.is_over:
                raise DeadlineExceededError(_not_in_time(arena, policy, end))
            found = await asyncio.to_thread(
                comparison.compare, policy.returns, baseline.returns, rate, look if request.sequential else 0, bounds
            )
            begin = end
            if found.verdict is not comparison.Verdict.UNCLEAR:
                break
    compared = evaluator_pb2.Comparison(
        policy=await asyncio.to_thread(make_report, info, arena, policy, problem=what_was_cut(arena, policy.cut)),
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
        seed=request.seed,
        error_rate=rate,
    )
    if keep is not None:
        compared.artifact_uri = await keep.keep_comparison(compared)
    yield compared


def _not_in_time(arena: Arena, policy: Result, end: int) -> str:
    return (
        f"the comparison did not end within {arena.limits.seconds:g} s: {len(policy.episodes)} of {end} episodes of "
        f"{policy.contestant.name} had ended, {policy.cut} of them cut; allow more seconds, or fewer steps for each"
    )
