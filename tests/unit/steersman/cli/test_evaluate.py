from __future__ import annotations

import functools
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest

from steersman.v1 import evaluator_pb2, evaluator_pb2_grpc
from tests.command_line import CommandLine
from tests.unit.steersman.cli.servers import served

PROGRESS = evaluator_pb2.EvaluateResponse(
    progress=evaluator_pb2.EvaluationProgress(episodes_done=1, episodes_total=2, steps=1234, mean_return=17.5)
)
REPORT = evaluator_pb2.EvaluateResponse(
    report=evaluator_pb2.EvaluationReport(
        policy="cartpole",
        version=3,
        model_sha256="0123456789abcdef" * 4,
        environment_id="CartPole-v1",
        episodes=[evaluator_pb2.EpisodeResult(episode=number, episode_return=100.0 * number) for number in range(2)],
        mean=50.0,
        mean_interval=evaluator_pb2.Interval(low=0.0, high=100.0),
        action_latency_milliseconds=evaluator_pb2.LatencyPercentiles(p50=1.25, p99=2.5),
    )
)


class Evaluator(evaluator_pb2_grpc.EvaluatorServiceServicer):
    """Tells a story."""

    def __init__(self) -> None:
        self.story = [PROGRESS, REPORT]
        self.asked: list[evaluator_pb2.EvaluateRequest] = []

    async def Evaluate(  # noqa: N802 - gRPC's name
        self, request: evaluator_pb2.EvaluateRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[evaluator_pb2.EvaluateResponse]:
        self.asked.append(request)
        for event in self.story:
            yield event


@pytest.fixture
def evaluator(steersman: CommandLine) -> Iterator[Evaluator]:
    servicer = Evaluator()  # type: ignore[abstract] # nothing else is asked for
    with served(functools.partial(evaluator_pb2_grpc.add_EvaluatorServiceServicer_to_server, servicer)) as address:
        steersman.configure(evaluator_address=address)
        yield servicer


@pytest.mark.usefixtures("evaluator")
def test_a_report_is_a_table(steersman: CommandLine) -> None:
    result = steersman("evaluate", "cartpole")
    assert result.exit_code == 0
    for words in ("cartpole:3", "50.00 (95% interval 0.00 to 100.00)", "p50 1.25 ms, p99 2.50 ms"):
        assert words in result.output


def test_a_report_is_json_and_the_request_is_what_was_asked_for(steersman: CommandLine, evaluator: Evaluator) -> None:
    options = ["--episodes", "2", "--seed", "7", "--num-environments", "1", "--environment", "CartPole-v1"]
    result = steersman("evaluate", "cartpole:3", *options, "--environment-set", "max_episode_steps=9", "--json")
    assert [episode["episode_return"] for episode in json.loads(result.output)["episodes"]] == [0, 100]
    (asked,) = evaluator.asked
    assert (asked.policy, asked.episodes, asked.seed, asked.num_environments) == ("cartpole:3", 2, 7, 1)
    assert (asked.environment_id, dict(asked.environment_kwargs)) == ("CartPole-v1", {"max_episode_steps": 9})


@pytest.mark.usefixtures("terminal")
def test_progress_is_shown_beside_the_result(steersman: CommandLine, evaluator: Evaluator) -> None:
    evaluator.story = [PROGRESS]
    result = steersman("evaluate", "cartpole", "--json")
    assert result.exit_code == 1
    assert result.output == ""
    assert "1 of 2 episodes, 1,234 steps, mean 17.5 so far" in result.errors
    assert "expected a report at the end of the evaluation, got none" in result.errors
