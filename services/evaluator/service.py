"""EvaluatorService: evaluations as streams of progress and, at last, a report."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc
import numpy.typing as npt
from google.protobuf import json_format

from services.common.errors import answers_stream_errors
from services.evaluator.environments import check_spaces, close_environments, make_environments
from services.evaluator.episodes import Rollout
from services.evaluator.statistics import percentiles, summarise
from steersman.aio import PolicyClient, PolicyInfo
from steersman.errors import InvalidArgumentError
from steersman.v1 import evaluator_pb2, evaluator_pb2_grpc

DEFAULT_EPISODES = 20
MAX_EPISODES = 100_000
MAX_ENVIRONMENTS = 1024
DEFAULT_MAX_ENVIRONMENTS = 64

_PROGRESS_SECONDS = 0.1


class EvaluatorService(evaluator_pb2_grpc.EvaluatorServiceServicer):
    """Serves `steersman.v1.EvaluatorService`; the proto describes its methods.

    Args:
        gateway_address: The gateway that is asked for actions.
    """

    def __init__(self, gateway_address: str) -> None:
        self._gateway_address = gateway_address

    @answers_stream_errors
    async def Evaluate(
        self, request: evaluator_pb2.EvaluateRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[evaluator_pb2.EvaluateResponse]:
        """Plays episodes and reports on them."""
        episodes, count = _sizes(request)
        info = await self._resolve(request.policy)
        environment_id = request.environment_id or info.spec.environment_id
        kwargs = json_format.MessageToDict(request.environment_kwargs)
        environments = make_environments(environment_id, kwargs, count)
        try:
            check_spaces(environments[0], info.spec)
            # The version is named, so that a deployment in the middle cannot mix two of them in one report.
            async with PolicyClient(f"{info.name}:{info.version}", address=self._gateway_address) as client:
                evaluation = _Evaluation(Rollout(environments, episodes, request.seed), episodes, client)
                async with aclosing(evaluation.run()) as progress:
                    async for event in progress:
                        yield evaluator_pb2.EvaluateResponse(progress=event)
            yield evaluator_pb2.EvaluateResponse(report=evaluation.report(info, environment_id))
        finally:
            close_environments(environments)

    async def _resolve(self, policy: str) -> PolicyInfo:
        """Finds out which version is evaluated, and what it takes and gives."""
        async with PolicyClient(policy, address=self._gateway_address) as client:
            return await client.describe()


def _sizes(request: evaluator_pb2.EvaluateRequest) -> tuple[int, int]:
    """Gives how many episodes are played in how many environments.

    Raises:
        InvalidArgumentError: If there are too many.
    """
    episodes = request.episodes or DEFAULT_EPISODES
    if episodes > MAX_EPISODES:
        raise InvalidArgumentError(f"expected at most {MAX_EPISODES} episodes, got {episodes}")
    if request.num_environments > MAX_ENVIRONMENTS:
        raise InvalidArgumentError(f"expected at most {MAX_ENVIRONMENTS} environments, got {request.num_environments}")
    return episodes, min(episodes, request.num_environments or DEFAULT_MAX_ENVIRONMENTS)


class _Evaluation:
    """One evaluation: a rollout, timed.

    Args:
        rollout: Plays.
        episodes: How many episodes that are.
        client: Asks for the actions.
    """

    def __init__(self, rollout: Rollout, episodes: int, client: PolicyClient) -> None:
        self._rollout = rollout
        self._episodes = episodes
        self._client = client
        self._latencies: list[float] = []
        self._seconds = 0.0

    async def run(self) -> AsyncGenerator[evaluator_pb2.EvaluationProgress]:
        """Plays to the end, and tells how far it is from time to time."""
        began = told = time.perf_counter()
        async with aclosing(self._rollout.play(self._act)) as steps:
            async for _ in steps:
                now = time.perf_counter()
                if now - told >= _PROGRESS_SECONDS:
                    told = now
                    yield self._progress()
        self._seconds = time.perf_counter() - began
        yield self._progress()

    def report(self, info: PolicyInfo, environment_id: str) -> evaluator_pb2.EvaluationReport:
        """Reports on the episodes, once they have been played.

        Args:
            info: The policy.
            environment_id: The environment.
        """
        summary = summarise([episode.episode_return for episode in self._rollout.episodes])
        p50, p99 = percentiles(self._latencies)
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
                for episode in self._rollout.episodes
            ],
            mean=summary.mean,
            median=summary.median,
            interquartile_mean=summary.interquartile_mean,
            mean_interval=evaluator_pb2.Interval(low=summary.interval[0], high=summary.interval[1]),
            minimum=summary.minimum,
            action_latency_milliseconds=evaluator_pb2.LatencyPercentiles(p50=p50, p99=p99),
            steps=self._rollout.steps,
            seconds=self._seconds,
        )

    async def _act(self, observations: npt.NDArray[Any]) -> npt.NDArray[Any]:
        asked = time.perf_counter()
        actions = await self._client.act(observations)
        self._latencies.append(time.perf_counter() - asked)
        return actions

    def _progress(self) -> evaluator_pb2.EvaluationProgress:
        ended = self._rollout.episodes
        mean = sum(episode.episode_return for episode in ended) / len(ended) if ended else None
        return evaluator_pb2.EvaluationProgress(
            episodes_done=len(ended), episodes_total=self._episodes, steps=self._rollout.steps, mean_return=mean
        )
