from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from services.common.server import Service
from steersman.v1 import deployment_pb2, deployment_pb2_grpc, evaluator_pb2, evaluator_pb2_grpc
from tests.command_line import CommandLine
from tests.servers import served


def comparison(verdict: evaluator_pb2.Verdict.ValueType, further_pairs: int | None = None) -> evaluator_pb2.Comparison:
    return evaluator_pb2.Comparison(
        policy=evaluator_pb2.EvaluationReport(policy="cartpole", version=8, environment_id="CartPole-v1", mean=450.0),
        baseline=evaluator_pb2.EvaluationReport(policy="cartpole", version=7, mean=400.0),
        difference=50.0,
        difference_interval=evaluator_pb2.Interval(low=10.0, high=90.0),
        probability_of_improvement=0.75,
        verdict=verdict,
        further_pairs=further_pairs,
        pairs=40,
        looks=2,
        interval_method=evaluator_pb2.INTERVAL_METHOD_EMPIRICAL_BERNSTEIN,
    )


class Services(evaluator_pb2_grpc.EvaluatorServiceServicer, deployment_pb2_grpc.DeploymentServiceServicer):
    """Compares as it is told to, and takes note of promotions."""

    def __init__(self) -> None:
        self.verdict = comparison(evaluator_pb2.VERDICT_BETTER)
        self.compared: list[evaluator_pb2.CompareRequest] = []
        self.judged: list[evaluator_pb2.GateRequest] = []
        self.promoted: list[deployment_pb2.PromoteRequest] = []

    async def Compare(  # noqa: N802 - gRPC's name
        self, request: evaluator_pb2.CompareRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[evaluator_pb2.CompareResponse]:
        self.compared.append(request)
        yield evaluator_pb2.CompareResponse(progress=evaluator_pb2.EvaluationProgress(episodes_done=1))
        yield evaluator_pb2.CompareResponse(comparison=self.verdict)

    async def Gate(  # noqa: N802 - gRPC's name
        self, request: evaluator_pb2.GateRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[evaluator_pb2.GateResponse]:
        self.judged.append(request)
        yield evaluator_pb2.GateResponse(progress=evaluator_pb2.EvaluationProgress(episodes_done=1))
        yield evaluator_pb2.GateResponse(
            decision=evaluator_pb2.GateDecision(
                passed=self.verdict.verdict == evaluator_pb2.VERDICT_BETTER,
                reason="cartpole:8 against cartpole:7: better",
                policy="cartpole",
                version=8,
                revision=6,
                comparison=self.verdict,
            )
        )

    async def Promote(  # noqa: N802 - gRPC's name
        self, request: deployment_pb2.PromoteRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> deployment_pb2.PromoteResponse:
        request.ClearField("request_id")
        self.promoted.append(request)
        return deployment_pb2.PromoteResponse(deployment=deployment_pb2.Deployment(policy="cartpole", version=8))


@pytest.fixture
def services(steersman: CommandLine) -> Iterator[Services]:
    servicer = Services()  # type: ignore[abstract] # nothing else is asked for
    with served(
        Service(evaluator_pb2.DESCRIPTOR.services_by_name["EvaluatorService"], servicer),
        Service(deployment_pb2.DESCRIPTOR.services_by_name["DeploymentService"], servicer),
    ) as address:
        steersman.configure(gateway_address=address, evaluator_address=address)
        yield servicer


def test_what_is_better_is_promoted_just_as_it_was_compared(steersman: CommandLine, services: Services) -> None:
    """By version, even if the alias moves, and only at the revision from before the comparison."""
    result = steersman("promote", "cartpole@candidate", "--if-better-than", "champion", "--episodes", "320")
    assert result.exit_code == 0, result.errors
    assert "cartpole:8 is better than cartpole:7: +50.00 (interval +10.00 to +90.00)" in result.errors
    (asked,) = services.judged
    assert (asked.candidate, asked.than, asked.episodes) == ("cartpole@candidate", "champion", 320)
    assert not asked.HasField("seed"), "the evaluator draws one"
    assert not asked.passes_if_first, "an alias that is not there may be a slip of the pen"
    assert services.promoted == [
        deployment_pb2.PromoteRequest(
            policy="cartpole",
            version=8,
            alias="champion",
            expected_revision=6,
            reason="cartpole:8 against cartpole:7: better",
        )
    ]


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (comparison(evaluator_pb2.VERDICT_WORSE), "+90.00): worse"),
        (comparison(evaluator_pb2.VERDICT_UNCLEAR, 1234), "can't tell yet; about 1,234 more episodes would"),
        (comparison(evaluator_pb2.VERDICT_UNCLEAR), "can't tell yet; very many more would"),
        (evaluator_pb2.Comparison(verdict=evaluator_pb2.VERDICT_UNCLEAR, pairs=40), "there was no difference at all"),
    ],
)
def test_what_is_not_better_is_refused_with_the_numbers(
    steersman: CommandLine, services: Services, verdict: evaluator_pb2.Comparison, words: str
) -> None:
    services.verdict = verdict
    result = steersman("promote", "cartpole:8", "--if-better-than", "7")
    assert result.exit_code == 1
    assert "but the difference over 40 episodes is" in result.errors
    assert words in result.errors
    assert services.judged[0].than == "7"
    assert services.promoted == []


def test_the_gate_is_told_where_else_to_play(steersman: CommandLine, services: Services, tmp_path: Path) -> None:
    services.verdict.policy.environment_difference = "cartpole:8 was trained with no arguments"
    options = [
        "--environment-set",
        "gravity=5.0",
        "--wrapper",
        'boat:Sail{"area": 3.0}',
        "--working-dir",
        str(tmp_path),
    ]
    result = steersman("promote", "cartpole:8", "--if-better-than", "7", "--seed", "5", *options)
    assert result.exit_code == 0, result.errors
    assert "cartpole:8 was trained with no arguments" in result.errors
    (asked,) = services.judged
    assert (asked.seed, asked.environment.kwargs_json) == (5, '{"gravity": 5.0}')
    assert asked.environment.wrappers[0].kwargs_json == '{"area": 3.0}'
    assert asked.code.working_dir == str(tmp_path)


def test_a_comparison_is_a_table_or_json(steersman: CommandLine, services: Services) -> None:
    table = steersman("compare", "cartpole:8", "cartpole:7", "--sequential", "--seed", "5")
    for words in ("cartpole:8, mean return 450.00", "40 each, on the same seeds", "75.0%", "better"):
        assert words in table.output
    assert json.loads(steersman("compare", "cartpole:8", "random", "--json").output)["verdict"] == "better"
    assert [(request.sequential, request.seed, request.baseline) for request in services.compared] == [
        (True, 5, "cartpole:7"),
        (False, 0, "random"),
    ]


def test_bounds_are_handed_on(steersman: CommandLine, services: Services) -> None:
    steersman("promote", "cartpole:8", "--if-better-than", "7", "--return-bounds", "0,500")
    assert "right for any differences" in steersman("compare", "cartpole:8", "random", "--return-bounds=-5,5.5").output
    (judged,), (compared,) = services.judged, services.compared
    assert (judged.return_bounds.low, judged.return_bounds.high) == (0, 500)
    assert (compared.return_bounds.low, compared.return_bounds.high) == (-5, 5.5)
    for text in ("500", "a,b"):
        result = steersman("compare", "cartpole:8", "random", "--return-bounds", text)
        assert f"expected bounds of returns like 0,500, got {text!r}" in result.errors
