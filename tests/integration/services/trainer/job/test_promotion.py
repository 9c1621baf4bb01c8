"""The end of a run in the evaluator's gate."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from deploy.free_ports import free_address
from services.common.server import Service
from services.trainer.job.promotion import promote_if_better
from services.trainer.records.tracking import Tracking
from steersman.arguments import kwargs_of, set_kwargs
from steersman.settings import settings
from steersman.v1 import deployment_pb2, deployment_pb2_grpc, evaluator_pb2, evaluator_pb2_grpc, trainer_pb2
from tests.servers import served

pytestmark = pytest.mark.integration


class Services(evaluator_pb2_grpc.EvaluatorServiceServicer, deployment_pb2_grpc.DeploymentServiceServicer):
    """Decides as it is told to, and takes note of promotions."""

    def __init__(self) -> None:
        self.passed = True
        self.judged: list[evaluator_pb2.GateRequest] = []
        self.promoted: list[deployment_pb2.PromoteRequest] = []

    async def Gate(  # noqa: N802 - gRPC's name
        self, request: evaluator_pb2.GateRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[evaluator_pb2.GateResponse]:
        self.judged.append(request)
        yield evaluator_pb2.GateResponse(progress=evaluator_pb2.EvaluationProgress(episodes_done=1))
        decision = evaluator_pb2.GateDecision(
            passed=self.passed, reason="the numbers", policy="boat", version=8, revision=6
        )
        yield evaluator_pb2.GateResponse(decision=decision)

    async def Promote(  # noqa: N802 - gRPC's name
        self, request: deployment_pb2.PromoteRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> deployment_pb2.PromoteResponse:
        self.promoted.append(request)
        return deployment_pb2.PromoteResponse()


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    servicer = Services()  # type: ignore[abstract] # nothing else is asked for
    with served(
        Service(evaluator_pb2.DESCRIPTOR.services_by_name["EvaluatorService"], servicer),
        Service(deployment_pb2.DESCRIPTOR.services_by_name["DeploymentService"], servicer),
    ) as address:
        monkeypatch.setenv("STEERSMAN_GATEWAY_ADDRESS", address)
        monkeypatch.setenv("STEERSMAN_EVALUATOR_ADDRESS", address)
        settings.cache_clear()
        yield servicer
    settings.cache_clear()


@pytest.fixture
def tracking(tmp_path: Path) -> Tracking:
    return Tracking(f"sqlite:///{tmp_path}/mlflow.db")


def started(tracking: Tracking, than: str) -> trainer_pb2.Run:
    spec = trainer_pb2.RunSpec(policy="boat", algorithm="PPO", environment=trainer_pb2.Environment(id="boat:Boat-v0"))
    set_kwargs(spec.environment, {"start": 10.0, "deep": [{"serial": 9007199254740993}]})
    spec.code.working_dir, spec.code.sha256 = "/kept/code.zip", "ab" * 32
    spec.publishing.promote_if_better_than = than
    return trainer_pb2.Run(id=tracking.create(spec), spec=spec)


def test_a_version_that_passes_is_promoted_and_one_that_does_not_is_not(services: Services, tracking: Tracking) -> None:
    run = started(tracking, "stable")
    kept = tracking.get(run.id).spec
    assert repr(kwargs_of(kept.environment)) == "{'start': 10.0, 'deep': [{'serial': 9007199254740993}]}"
    parameters = tracking.client.get_run(run.id).data.params
    assert parameters["environment_kwargs"] == '{"start": 10.0, "deep": [{"serial": 9007199254740993}]}'

    promote_if_better(run, 8, tracking)
    (asked,) = services.judged
    assert (asked.candidate, asked.than, asked.passes_if_first) == ("boat:8", "stable", True)
    assert asked.code == run.spec.code
    assert not asked.HasField("environment"), "the version's spec has it"
    assert not asked.HasField("seed")
    (promoted,) = services.promoted
    assert (promoted.version, promoted.alias, promoted.expected_revision) == (8, "stable", 6)
    assert promoted.reason == "the numbers"
    assert not tracking.get(run.id).warning

    services.passed = False
    promote_if_better(run, 8, tracking)
    assert len(services.promoted) == 1
    assert tracking.get(run.id).warning == "version 8 was not promoted over stable: the numbers"


def test_without_an_evaluator_nothing_is_promoted_and_the_run_says_so(
    services: Services, tracking: Tracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = free_address()
    monkeypatch.setenv("STEERSMAN_EVALUATOR_ADDRESS", address)
    settings.cache_clear()
    run = started(tracking, "champion")
    promote_if_better(run, 8, tracking)
    warning = tracking.get(run.id).warning
    assert f"not promoted over champion: the evaluator at {address}, whose gate decides, is not available" in warning
    assert "steersman promote boat:8 --if-better-than champion" in warning
    assert services.promoted == []
