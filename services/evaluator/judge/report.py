"""Reports: what is said of episodes that have been played."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import metadata

from services.common.episodes import Episode
from services.evaluator.judge.summary_statistics import percentiles, probability_of_improvement, summarise
from services.evaluator.play.evaluation import Arena, Result
from steersman.aio import PolicyInfo
from steersman.environments.choice import difference
from steersman.v1 import evaluator_pb2

_PACKAGES = ("steersman", "gymnasium", "grpcio", "numpy", "scipy")


def make_report(
    info: PolicyInfo, arena: Arena, result: Result, references: Sequence[Result] = (), problem: str = ""
) -> evaluator_pb2.EvaluationReport:
    """Makes a report. This takes seconds for many episodes.

    Args:
        info: The policy.
        arena: Where it was played.
        result: What the policy has played, at least one episode.
        references: What others have played; those without an episode are left out.
        problem: Why these are not all episodes; empty if they are.
    """
    episodes = result.in_order
    environment, code = arena.recipe.environment, arena.recipe.code.sha256
    summary = summarise(result.returns)
    p50, p90, p99, p999 = percentiles(result.latencies, 50, 90, 99, 99.9)
    return evaluator_pb2.EvaluationReport(
        policy=info.name,
        version=info.version,
        model_sha256=info.spec.model_sha256,
        environment_id=environment.id,
        episodes=rows_of(episodes),
        mean=summary.mean,
        median=summary.median,
        interquartile_mean=summary.interquartile_mean,
        mean_interval=evaluator_pb2.Interval(low=summary.interval[0], high=summary.interval[1]),
        minimum=summary.minimum,
        action_latency_milliseconds=evaluator_pb2.LatencyPercentiles(p50=p50, p90=p90, p99=p99, p999=p999),
        steps=sum(episode.length for episode in episodes),
        seconds=result.seconds,
        standard_deviation=summary.standard_deviation,
        percentile_5=summary.percentile_5,
        mean_length=sum(episode.length for episode in episodes) / len(episodes),
        success_rate=success_rate_of(episodes),
        terminated=sum(episode.terminated for episode in episodes),
        truncated=sum(episode.truncated and not episode.terminated for episode in episodes),
        packages={name: metadata.version(name) for name in _PACKAGES},
        requests=len(result.latencies) + result.failed_requests,
        failed_requests=result.failed_requests,
        references=[_reference(result, other) for other in references if other.episodes],
        cut=result.cut,
        partial=bool(problem),
        problem=problem,
        environment_kwargs=environment.kwargs,
        environment_kwargs_json=environment.kwargs_json,
        wrappers=environment.wrappers,
        code_sha256=code,
        environment_difference=difference(f"{info.name}:{info.version}", info.spec, environment, code)
        if info.version
        else "",
        seed=arena.seed,
    )


def what_was_cut(arena: Arena, cut: int, not_begun: int = 0) -> str:
    """Says in one sentence that episodes did not end; empty if all did.

    Args:
        arena: Where it was played.
        cut: How many had not ended when they were cut.
        not_begun: How many were not begun any more.
    """
    if not (cut or not_begun):
        return ""
    limits = [f"{arena.limits.steps:,} steps"] if arena.limits.steps else []
    limits += [f"{arena.limits.seconds:g} s in all"] if arena.limits.seconds else []
    others = f", and {not_begun} were not begun" if not_begun else ""
    return (
        f"{cut} episodes had not ended within {' and '.join(limits)} and were cut there{others}; where the environment "
        "has no time limit of its own, --environment-set max_episode_steps=N gives it one"
    )


def _reference(result: Result, other: Result) -> evaluator_pb2.Reference:
    summary = summarise(other.returns)
    return evaluator_pb2.Reference(
        name=other.contestant.name,
        episodes=rows_of(other.in_order),
        mean=summary.mean,
        mean_interval=evaluator_pb2.Interval(low=summary.interval[0], high=summary.interval[1]),
        interquartile_mean=summary.interquartile_mean,
        probability_of_improvement=probability_of_improvement(result.returns, other.returns),
    )


def success_rate_of(episodes: Sequence[Episode]) -> float | None:
    """Gives the part of the episodes that succeeded; None where the environment does not say."""
    successes = [episode.success for episode in episodes if episode.success is not None]
    return sum(successes) / len(successes) if successes else None


def rows_of(episodes: Iterable[Episode]) -> list[evaluator_pb2.EpisodeResult]:
    """Gives the rows of a report."""
    return [
        evaluator_pb2.EpisodeResult(
            episode=episode.number,
            seed=episode.seed,
            episode_return=episode.episode_return,
            length=episode.length,
            terminated=episode.terminated,
            truncated=episode.truncated,
            success=episode.success,
            cut=episode.cut,
        )
        for episode in episodes
    ]
