"""EvaluatorService: evaluations as streams of progress and, at last, a report."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import Any

import grpc

from services.common.errors import answers_stream_errors
from services.common.structs import plain_values
from services.evaluator.environments import Environment, check_spaces, close_environments, make_environments
from services.evaluator.episodes import Rollout, Step
from services.evaluator.report import make_report
from services.evaluator.threads import run_to_the_end
from steersman import spaces
from steersman.aio import Ask, PolicyClient, PolicyInfo
from steersman.errors import InvalidArgumentError, UnavailableError
from steersman.v1 import evaluator_pb2, evaluator_pb2_grpc

DEFAULT_EPISODES = 20
MAX_EPISODES = 100_000
MAX_ENVIRONMENTS = 1024
DEFAULT_MAX_ENVIRONMENTS = 64
MAX_SEED = 2**64 - 1

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
        kwargs = plain_values(request.environment_kwargs)
        with self._gateway_named():
            info = await self._resolve(request.policy)
        environment_id = request.environment_id or info.spec.environment_id
        environments: list[Environment] = []
        try:
            await run_to_the_end(make_environments, environment_id, kwargs, count, environments)
            check_spaces(environments[0], info.spec)
            rollout = Rollout(environments, episodes, request.seed, keep_rows=bool(info.spec.state_tensors))
            # The version is named, so that a deployment in the middle cannot mix two of them in one report.
            with self._gateway_named():
                async with PolicyClient(f"{info.name}:{info.version}", address=self._gateway_address) as client:
                    evaluation = _Evaluation(rollout, episodes, client, info)
                    async with aclosing(evaluation.run()) as progress:
                        async for event in progress:
                            yield evaluator_pb2.EvaluateResponse(progress=event)
            report = await asyncio.to_thread(
                make_report, info, environment_id, rollout.episodes, evaluation.latencies, evaluation.seconds
            )
            yield evaluator_pb2.EvaluateResponse(report=report)
        finally:
            await run_to_the_end(close_environments, environments)

    async def _resolve(self, policy: str) -> PolicyInfo:
        """Finds out which version is evaluated, and what it takes and gives."""
        async with PolicyClient(policy, address=self._gateway_address) as client:
            return await client.describe()

    @contextmanager
    def _gateway_named(self) -> Iterator[None]:
        """Says who is not available: to the caller it would look like the evaluator itself."""
        try:
            yield
        except UnavailableError as error:
            raise UnavailableError(f"no actions from the gateway at {self._gateway_address}: {error}") from error


def _sizes(request: evaluator_pb2.EvaluateRequest) -> tuple[int, int]:
    """Gives how many episodes are played in how many environments.

    Raises:
        InvalidArgumentError: If there are too many, or there are no seeds for all of them.
    """
    episodes = request.episodes or DEFAULT_EPISODES
    if episodes > MAX_EPISODES:
        raise InvalidArgumentError(f"expected at most {MAX_EPISODES} episodes, got {episodes}")
    if request.num_environments > MAX_ENVIRONMENTS:
        raise InvalidArgumentError(f"expected at most {MAX_ENVIRONMENTS} environments, got {request.num_environments}")
    if request.seed > MAX_SEED - (episodes - 1):
        raise InvalidArgumentError(
            f"expected a seed of at most {MAX_SEED - (episodes - 1)} for {episodes} episodes, got {request.seed}"
        )
    return episodes, min(episodes, request.num_environments or DEFAULT_MAX_ENVIRONMENTS)


class _Evaluation:
    """One evaluation: a rollout, timed.

    Args:
        rollout: Plays.
        episodes: How many episodes that are.
        client: Asks for the actions.
        info: The policy.

    Attributes:
        latencies: Seconds that each request for actions took.
        seconds: How long all of it took, once it is over.
    """

    def __init__(self, rollout: Rollout, episodes: int, client: PolicyClient, info: PolicyInfo) -> None:
        self._rollout = rollout
        self._episodes = episodes
        self._client = client
        self._format = info.format
        self._state = b""
        self.latencies: list[float] = []
        self.seconds = 0.0

    async def run(self) -> AsyncGenerator[evaluator_pb2.EvaluationProgress]:
        """Plays to the end, and tells how far it is from time to time."""
        began = told = time.perf_counter()
        async with aclosing(self._rollout.play(self._act)) as steps:
            async for _ in steps:
                now = time.perf_counter()
                if now - told >= _PROGRESS_SECONDS:
                    told = now
                    yield self._progress()
        self.seconds = time.perf_counter() - began
        yield self._progress()

    async def _act(self, step: Step) -> Sequence[Any]:
        asked = time.perf_counter()
        answer = await self._client.ask(
            step.observations,
            Ask(state=self._state, episode_start=step.begins),
            reward=step.rewards if self._format.takes_reward else None,
        )
        self.latencies.append(time.perf_counter() - asked)
        self._state = answer.state
        return spaces.unbatch(answer.action, self._format.action)

    def _progress(self) -> evaluator_pb2.EvaluationProgress:
        ended = self._rollout.episodes
        mean = sum(episode.episode_return for episode in ended) / len(ended) if ended else None
        return evaluator_pb2.EvaluationProgress(
            episodes_done=len(ended), episodes_total=self._episodes, steps=self._rollout.steps, mean_return=mean
        )
