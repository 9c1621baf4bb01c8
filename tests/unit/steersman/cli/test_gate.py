from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
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
        self.promoted: list[deployment_pb2.PromoteRequest] = []

    async def Compare(  # noqa: N802 - gRPC's name
        self, request: evaluator_pb2.CompareRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[evaluator_pb2.CompareResponse]:
        self.compared.append(request)
        yield evaluator_pb2.CompareResponse(progress=evaluator_pb2.EvaluationProgress(episodes_done=1))
        yield evaluator_pb2.CompareResponse(comparison=self.verdict)

    async def ListDeployments(  # noqa: N802 - gRPC's name
        self, request: deployment_pb2.ListDeploymentsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> deployment_pb2.ListDeploymentsResponse:
        return deployment_pb2.ListDeploymentsResponse(
            deployments=[deployment_pb2.Deployment(policy="cartpole", revision=6)]
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
    (asked,) = services.compared
    assert (asked.policy, asked.baseline, asked.episodes) == ("cartpole@candidate", "cartpole@champion", 320)
    assert asked.sequential
    assert services.promoted == [
        deployment_pb2.PromoteRequest(
            policy="cartpole",
            version=8,
            alias="champion",
            expected_revision=6,
            reason="better than cartpole:7 in CartPole-v1: difference +50.00 (interval +10.00 to +90.00) over 40 "
            "episodes on the same seeds, mean returns 450.00 and 400.00",
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
    assert services.compared[0].baseline == "cartpole:7"
    assert services.promoted == []


def test_the_gate_needs_a_version(steersman: CommandLine, services: Services) -> None:
    result = steersman("promote", "cartpole", "--if-better-than", "champion")
    assert result.exit_code == 1
    assert "like cartpole:8 or cartpole@candidate, got 'cartpole'" in result.errors
    assert services.compared == []


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
    assert [(each.return_bounds.low, each.return_bounds.high) for each in services.compared] == [(0, 500), (-5, 5.5)]
    for text in ("500", "a,b"):
        result = steersman("compare", "cartpole:8", "random", "--return-bounds", text)
        assert f"expected bounds of returns like 0,500, got {text!r}" in result.errors
