"""Reports: what is said of episodes that have been played."""

from __future__ import annotations

from collections.abc import Sequence

from services.evaluator.episodes import Episode
from services.evaluator.statistics import percentiles, summarise
from steersman.aio import PolicyInfo
from steersman.v1 import evaluator_pb2


def make_report(
    info: PolicyInfo,
    environment_id: str,
    episodes: Sequence[Episode],
    latencies: Sequence[float],
    seconds: float,
) -> evaluator_pb2.EvaluationReport:
    """Makes a report. This takes seconds for many episodes.

    Args:
        info: The policy.
        environment_id: The environment.
        episodes: All episodes, in the order of their numbers; at least one.
        latencies: Seconds that each request for actions took.
        seconds: How long all of it took.
    """
    summary = summarise([episode.episode_return for episode in episodes])
    p50, p99 = percentiles(latencies)
    return evaluator_pb2.EvaluationReport(
        policy=info.name,
        version=info.version,
        model_sha256=info.spec.model_sha256,
        environment_id=environment_id,
        episodes=[
            evaluator_pb2.EpisodeResult(
                episode=episode.number,
                seed=episode.seed,
                episode_return=episode.episode_return,
                length=episode.length,
                terminated=episode.terminated,
                truncated=episode.truncated,
            )
            for episode in episodes
        ],
        mean=summary.mean,
        median=summary.median,
        interquartile_mean=summary.interquartile_mean,
        mean_interval=evaluator_pb2.Interval(low=summary.interval[0], high=summary.interval[1]),
        minimum=summary.minimum,
        action_latency_milliseconds=evaluator_pb2.LatencyPercentiles(p50=p50, p99=p99),
        steps=sum(episode.length for episode in episodes),
        seconds=seconds,
    )
