"""Changes whose answer is lost on the way are asked for again by the command line, and are made once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from steersman.v1 import deployment_pb2, deployment_pb2_grpc
from tests.bundles import write_linear_bundle
from tests.command_line import CommandLine
from tests.gateways import GatewayProcess, gateway_process
from tests.lossy_proxy import LossyProxy, lossy_proxy

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway whose Ray is away: what is wanted is kept all the same."""
    with gateway_process(tmp_path_factory.mktemp("gateway")) as process:
        yield process


@pytest.fixture
def deployments(gateway: GatewayProcess, tmp_path: Path) -> Iterator[deployment_pb2_grpc.DeploymentServiceStub]:
    """Its admin API; "lossy" has had versions 1 to 4, and goes to 4."""
    bundle = str(write_linear_bundle(tmp_path / "bundle").folder)
    with grpc.insecure_channel(gateway.address) as channel:
        stub = deployment_pb2_grpc.DeploymentServiceStub(channel)
        for version in (1, 2, 3, 4):
            stub.Deploy(deployment_pb2.DeployRequest(policy="lossy", version=version, bundle_uri=bundle))
        yield stub
        stub.Undeploy(deployment_pb2.UndeployRequest(policy="lossy"))


@pytest.fixture
def proxy(gateway: GatewayProcess, steersman: CommandLine) -> Iterator[LossyProxy]:
    """Loses the first answer that names the policy."""
    with lossy_proxy(gateway.address, b"lossy") as found:
        steersman.configure(gateway_address=found.address)
        yield found


def actions(deployments: deployment_pb2_grpc.DeploymentServiceStub) -> list[str]:
    """Gives what was done, the earliest first."""
    records = deployments.ListAudit(deployment_pb2.ListAuditRequest(policy="lossy")).records
    assert all(record.request_id for record in records if record.action != "deploy" and record.action != "undeploy")
    return [record.action for record in records][::-1]


@pytest.mark.parametrize(
    ("command", "action", "route"),
    [
        (["rollback", "lossy"], "rollback", {3: 1.0}),
        (["route", "lossy", "1=1", "2=3"], "set_route", {1: 1.0, 2: 3.0}),
        (["promote", "lossy:2"], "promote", {2: 1.0}),
        (["alias", "lossy:1", "candidate"], "set_alias", {4: 1.0}),
        (["deploy", "lossy:3", "--bundle", "{bundle}", "--no-wait"], "deploy", {3: 1.0}),
    ],
)
def test_a_change_whose_answer_was_lost_is_made_once(
    deployments: deployment_pb2_grpc.DeploymentServiceStub,
    proxy: LossyProxy,
    steersman: CommandLine,
    tmp_path: Path,
    command: list[str],
    action: str,
    route: dict[int, float],
) -> None:
    before = actions(deployments)
    result = steersman(*(part.format(bundle=tmp_path / "bundle") for part in command), "--json")
    assert result.exit_code == 0, result.errors
    assert proxy.to_lose == 0
    assert "asking again" in result.errors
    assert actions(deployments) == [*before, action]
    listed = deployments.ListDeployments(deployment_pb2.ListDeploymentsRequest()).deployments
    assert {entry.version: entry.weight for entry in listed[0].route.weights} == route
    assert json.loads(result.output)["revision"] == listed[0].revision


def test_a_repeated_rollback_gets_what_the_first_one_made_whatever_happened_since(
    deployments: deployment_pb2_grpc.DeploymentServiceStub,
) -> None:
    request = deployment_pb2.RollbackRequest(policy="lossy", request_id="the-first")
    first = deployments.Rollback(request).deployment
    assert first.version == 3
    deployments.Promote(deployment_pb2.PromoteRequest(policy="lossy", version=1, request_id="another"))
    again = deployments.Rollback(request).deployment
    assert (again.version, again.revision, again.bundle_uri) == (3, first.revision, first.bundle_uri)
    assert dict(again.aliases) == {}
    listed = deployments.ListDeployments(deployment_pb2.ListDeploymentsRequest()).deployments
    assert (listed[0].version, listed[0].revision) == (1, first.revision + 1)
    with pytest.raises(grpc.RpcError) as refused:
        deployments.Undeploy(deployment_pb2.UndeployRequest(policy="lossy", request_id="the-first"))
    assert isinstance(refused.value, grpc.Call)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "'the-first', which a rollback of revision" in (refused.value.details() or "")
