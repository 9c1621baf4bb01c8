from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from services.common.server import Service
from steersman.v1 import deployment_pb2
from tests.command_line import CommandLine
from tests.servers import served
from tests.unit.steersman.cli.no_deployments import NoDeployments

_Context = grpc.aio.ServicerContext[Any, Any]
BEFORE = deployment_pb2.Deployment(
    policy="cartpole",
    version=7,
    revision=4,
    route=deployment_pb2.Route(weights=[deployment_pb2.RouteWeight(version=7, weight=1)]),
)


class Gateway(NoDeployments):
    """Takes down what it is asked, and by whom."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.ids: set[str] = set()
        self.actors: list[str] = []

    def _note(self, request: Any, context: _Context) -> None:  # noqa: ANN401 - any request
        if "request_id" in request.DESCRIPTOR.fields_by_name:
            self.ids.add(request.request_id)
            request.ClearField("request_id")
        self.asked.append(request)
        self.actors += [str(value) for key, value in context.invocation_metadata() or () if key == "x-steersman-actor"]

    async def SetRoute(  # noqa: N802 - gRPC's name
        self, request: deployment_pb2.SetRouteRequest, context: _Context
    ) -> deployment_pb2.SetRouteResponse:
        self._note(request, context)
        if request.expected_revision == 3:
            await context.abort(grpc.StatusCode.ABORTED, "expected policy 'cartpole' at revision 3, but it is at 4")
        deployment = deployment_pb2.Deployment(policy="cartpole", revision=5, route=request.route)
        return deployment_pb2.SetRouteResponse(deployment=deployment)

    async def SetAlias(  # noqa: N802 - gRPC's name
        self, request: deployment_pb2.SetAliasRequest, context: _Context
    ) -> deployment_pb2.SetAliasResponse:
        self._note(request, context)
        return deployment_pb2.SetAliasResponse(deployment=BEFORE)

    async def Promote(  # noqa: N802 - gRPC's name
        self, request: deployment_pb2.PromoteRequest, context: _Context
    ) -> deployment_pb2.PromoteResponse:
        self._note(request, context)
        return deployment_pb2.PromoteResponse(deployment=BEFORE)

    async def Rollback(  # noqa: N802 - gRPC's name
        self, request: deployment_pb2.RollbackRequest, context: _Context
    ) -> deployment_pb2.RollbackResponse:
        self._note(request, context)
        return deployment_pb2.RollbackResponse(deployment=BEFORE)

    async def ListAudit(  # noqa: N802 - gRPC's name
        self, request: deployment_pb2.ListAuditRequest, context: _Context
    ) -> deployment_pb2.ListAuditResponse:
        self._note(request, context)
        record = deployment_pb2.AuditRecord(actor="ann@host", action="promote", policy="cartpole", revision=4)
        record.time.FromSeconds(0)
        return deployment_pb2.ListAuditResponse(records=[record])


@pytest.fixture
def gateway(steersman: CommandLine) -> Iterator[Gateway]:
    servicer = Gateway()
    service = Service(deployment_pb2.DESCRIPTOR.services_by_name["DeploymentService"], servicer)
    with served(service) as address:
        steersman.configure(gateway_address=address)
        yield servicer


def test_a_route_is_set_whole_and_shown_in_percent(steersman: CommandLine, gateway: Gateway) -> None:
    result = steersman("route", "cartpole", "7=3", "8=1", "--shadow", "9=0.05", "--tolerance", "0.5")
    assert result.output == "cartpole goes to 7 (75%), 8 (25%), shadow 9 (5%) (revision 5).\n"
    request = gateway.asked[0]
    assert [(entry.version, entry.weight) for entry in request.route.weights] == [(7, 3.0), (8, 1.0)]
    assert request.route.shadow == deployment_pb2.Shadow(version=9, share=0.05, tolerance=0.5)
    assert "@" in gateway.actors[0]


@pytest.mark.usefixtures("gateway")
def test_a_change_that_somebody_else_was_quicker_than_fails(steersman: CommandLine) -> None:
    refused = steersman("route", "cartpole", "7=1", "--revision", "3")
    assert refused.exit_code == 1
    assert "Error: expected policy 'cartpole' at revision 3, but it is at 4\n" in refused.errors


@pytest.mark.usefixtures("gateway")
@pytest.mark.parametrize("weight", ["7", "x=1", "7=x", "=", "7=1=1"])
def test_what_is_no_weight_is_refused(steersman: CommandLine, weight: str) -> None:
    refused = steersman("route", "cartpole", weight)
    assert refused.exit_code == 1
    assert f"expected a version and a number like 7=90, got {weight!r}" in refused.errors


def test_aliases_are_set_and_taken_away(steersman: CommandLine, gateway: Gateway) -> None:
    assert steersman("alias", "cartpole:8", "candidate").output == "cartpole@candidate is version 8.\n"
    assert steersman("alias", "cartpole", "candidate").output == "cartpole@candidate is gone.\n"
    assert [(request.alias, request.version) for request in gateway.asked] == [("candidate", 8), ("candidate", 0)]


def test_promotion_names_a_version_or_an_alias(steersman: CommandLine, gateway: Gateway) -> None:
    assert steersman("promote", "cartpole@candidate").output == "cartpole goes to 7 (revision 4).\n"
    assert json.loads(steersman("promote", "cartpole:8", "--alias", "stable", "--json").output)["version"] == 7
    assert gateway.asked == [
        deployment_pb2.PromoteRequest(policy="cartpole", from_alias="candidate", alias="champion"),
        deployment_pb2.PromoteRequest(policy="cartpole", version=8, alias="stable"),
    ]
    assert len(gateway.ids - {""}) == 2, "each has an id of its own, by which it can be sent again"


def test_rollback(steersman: CommandLine, gateway: Gateway) -> None:
    assert steersman("rollback", "cartpole", "--revision", "4").output == "cartpole goes to 7 (revision 4).\n"
    assert gateway.asked == [deployment_pb2.RollbackRequest(policy="cartpole", expected_revision=4)]


def test_the_audit_trail_is_listed(steersman: CommandLine, gateway: Gateway) -> None:
    assert "1970-01-01 00:00:00 ann@host promote cartpole" in " ".join(steersman("audit").output.split())
    assert json.loads(steersman("audit", "cartpole", "--limit", "3", "--json").output)[0]["actor"] == "ann@host"
    assert gateway.asked[1] == deployment_pb2.ListAuditRequest(policy="cartpole", limit=3)
