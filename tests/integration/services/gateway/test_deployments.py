"""Deployments on a real Ray Serve, and the model registry of a real MLflow."""

import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
from mlflow import MlflowClient

from services.common.bundle import Bundle
from steersman import PolicyClient
from steersman.errors import NotFoundError, UnavailableError
from steersman.v1 import deployment_pb2, deployment_pb2_grpc, policy_pb2, policy_pb2_grpc
from tests.bundles import write_linear_bundle, write_recurrent_bundle
from tests.conftest import Stack
from tests.gateways import gateway_process
from tests.serve_api import ServeApi

pytestmark = pytest.mark.integration

OBSERVATION = np.array([0.1, -0.2, 0.3, -0.4], np.float32)


@pytest.fixture(scope="module")
def deployments(stack: Stack) -> Iterator[deployment_pb2_grpc.DeploymentServiceStub]:
    with grpc.insecure_channel(stack.settings.gateway_address) as channel:
        yield deployment_pb2_grpc.DeploymentServiceStub(channel)


def wait_for(
    deployments: deployment_pb2_grpc.DeploymentServiceStub,
    policy: str,
    condition: Callable[[deployment_pb2.Deployment | None], bool],
) -> deployment_pb2.Deployment | None:
    """Polls a deployment until the condition holds."""
    deadline = time.monotonic() + 90
    while True:
        listed = deployments.ListDeployments(deployment_pb2.ListDeploymentsRequest()).deployments
        found = next((deployment for deployment in listed if deployment.policy == policy), None)
        if condition(found):
            return found
        assert time.monotonic() < deadline, found and found.message
        time.sleep(0.1)


def seed_of(stack: Stack, address: str) -> object:
    """Tells which of the linear bundles a version is."""
    with grpc.insecure_channel(stack.settings.gateway_address) as channel:
        request = policy_pb2.GetPolicyRequest(policy=address)
        (version,) = policy_pb2_grpc.PolicyServiceStub(channel).GetPolicy(request).policy.versions
        return version.provenance["seed"]


def is_ready(deployment: deployment_pb2.Deployment | None) -> bool:
    return deployment is not None and deployment.state == deployment_pb2.DEPLOYMENT_STATE_READY


def is_failed(deployment: deployment_pb2.Deployment | None) -> bool:
    return deployment is not None and deployment.state == deployment_pb2.DEPLOYMENT_STATE_FAILED


def is_gone(deployment: deployment_pb2.Deployment | None) -> bool:
    return deployment is None


def test_a_policy_is_deployed_swapped_scaled_and_undeployed(
    stack: Stack,
    deployments: deployment_pb2_grpc.DeploymentServiceStub,
    bundle: Bundle,
    other_bundle: Bundle,
    tmp_path: Path,
) -> None:
    request = deployment_pb2.DeployRequest(policy="linear", version=1, bundle_uri=str(bundle.folder))
    accepted = deployments.Deploy(request).deployment
    assert accepted.state == deployment_pb2.DEPLOYMENT_STATE_DEPLOYING
    assert "waits for 1 of 1 replicas" in accepted.message
    ready = wait_for(deployments, "linear", is_ready)
    assert ready is not None
    assert (ready.version, ready.bundle_uri, ready.replicas_ready) == (1, str(bundle.folder), 1)

    with PolicyClient("linear", address=stack.settings.gateway_address) as client:
        answer = client.request(OBSERVATION)
        assert answer.version == 1

        url = f"http://{stack.settings.serve_http_address}/linear"
        assert httpx.get(url).json() == {"versions": [1]}
        over_http = httpx.post(url, json={"array": OBSERVATION.tolist()})
        assert over_http.json() == {"action": answer.action, "version": 1}
        batch = httpx.post(url, json={"array": [OBSERVATION.tolist()] * 3})
        assert batch.json()["action"] == [answer.action] * 3
        for body in (b"oops", b"{}", b'{"array": [1, 2]}', b'{"array": "x"}', b"[]"):
            refused = httpx.post(url, content=body)
            assert refused.status_code == 400
            assert "expected" in refused.json()["error"]

        damaged = tmp_path / "damaged"
        shutil.copytree(other_bundle.folder, damaged)
        (damaged / "model.onnx").write_bytes(b"cut off")
        deployments.Deploy(deployment_pb2.DeployRequest(policy="linear", version=9, bundle_uri=str(damaged)))
        failed = wait_for(deployments, "linear", is_failed)
        assert failed is not None
        assert re.search(r"expected SHA-256 .*; version 1 goes on$", failed.message)
        assert client.request(OBSERVATION).version == 1

        request.version, request.bundle_uri, request.replicas = 2, str(other_bundle.folder), 2
        deployments.Deploy(request)
        ready = wait_for(deployments, "linear", is_ready)
        assert ready is not None
        assert (ready.version, ready.replicas_wanted, ready.replicas_ready) == (2, 2, 2)
        assert client.request(OBSERVATION).version == 2

        request.bundle_uri = str(bundle.folder)
        deployments.Deploy(request)
        wait_for(deployments, "linear", lambda _: seed_of(stack, "linear:2") == 1)

        recurrent = write_recurrent_bundle(tmp_path / "recurrent")
        request.version, request.bundle_uri, request.replicas = 3, str(recurrent.folder), 1
        deployments.Deploy(request)
        wait_for(deployments, "linear", is_ready)
        refused = httpx.post(url, json={"array": [1.0]})
        assert refused.status_code == 400
        assert "expected a policy without memory" in refused.json()["error"]

        deployments.Undeploy(deployment_pb2.UndeployRequest(policy="linear"))
        wait_for(deployments, "linear", is_gone)
        with pytest.raises(NotFoundError):
            client.request(OBSERVATION)


@pytest.mark.long
def test_a_deployment_that_cannot_load_says_why(
    stack: Stack, deployments: deployment_pb2_grpc.DeploymentServiceStub, tmp_path: Path
) -> None:
    deployments.Deploy(deployment_pb2.DeployRequest(policy="broken", version=1, bundle_uri=str(tmp_path)))
    failed = wait_for(deployments, "broken", is_failed)
    assert failed is not None
    assert failed.message == f"cannot read {tmp_path}/manifest.json: No such file or directory"
    with PolicyClient("broken", address=stack.settings.gateway_address) as client:
        with pytest.raises(UnavailableError, match="cannot read"):
            client.act(OBSERVATION)
        write_linear_bundle(tmp_path)
        deployments.Deploy(deployment_pb2.DeployRequest(policy="broken", version=1, bundle_uri=str(tmp_path)))
        wait_for(deployments, "broken", is_ready)
        client.act(OBSERVATION)
    deployments.Undeploy(deployment_pb2.UndeployRequest(policy="broken"))
    wait_for(deployments, "broken", is_gone)


@pytest.mark.parametrize(
    ("request_", "code", "words"),
    [
        (
            deployment_pb2.DeployRequest(policy="nobody"),
            grpc.StatusCode.NOT_FOUND,
            "expected a registered version of policy 'nobody'",
        ),
        (
            deployment_pb2.DeployRequest(policy="nobody", version=3),
            grpc.StatusCode.NOT_FOUND,
            "expected registered version 3 of policy 'nobody'",
        ),
        (deployment_pb2.DeployRequest(policy="No Body"), grpc.StatusCode.INVALID_ARGUMENT, "lower-case"),
        (deployment_pb2.DeployRequest(policy="nobody", version=-1), grpc.StatusCode.INVALID_ARGUMENT, "got -1"),
        (
            deployment_pb2.DeployRequest(policy="nobody", bundle_uri="/nowhere"),
            grpc.StatusCode.INVALID_ARGUMENT,
            "expected a version",
        ),
        (
            deployment_pb2.DeployRequest(policy="nobody", replicas=100_000),
            grpc.StatusCode.INVALID_ARGUMENT,
            "got 100000",
        ),
    ],
)
def test_bad_deployments_are_refused(
    deployments: deployment_pb2_grpc.DeploymentServiceStub,
    request_: deployment_pb2.DeployRequest,
    code: grpc.StatusCode,
    words: str,
) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        deployments.Deploy(request_)
    assert isinstance(refused.value, grpc.Call)
    assert refused.value.code() == code
    assert words in (refused.value.details() or "")


def test_what_is_not_deployed_cannot_be_undeployed(
    deployments: deployment_pb2_grpc.DeploymentServiceStub,
) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        deployments.Undeploy(deployment_pb2.UndeployRequest(policy="nobody"))
    assert isinstance(refused.value, grpc.Call)
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND


def test_while_ray_is_away_deployments_say_what_they_wait_for(tmp_path: Path) -> None:
    with gateway_process(tmp_path) as gateway, grpc.insecure_channel(gateway.address) as channel:
        stub = deployment_pb2_grpc.DeploymentServiceStub(channel)
        stub.Deploy(deployment_pb2.DeployRequest(policy="patient", version=1, bundle_uri="/nowhere"))
        waiting = wait_for(stub, "patient", lambda found: found is not None and "next try" in found.message)
        assert waiting is not None
        assert waiting.state == deployment_pb2.DEPLOYMENT_STATE_DEPLOYING
        assert "waits for Ray Serve: cannot reach Ray's dashboard at http://127.0.0.1" in waiting.message


def test_without_a_control_plane_nothing_can_be_deployed(tmp_path: Path) -> None:
    with (
        gateway_process(tmp_path, ray_dashboard_url="") as gateway,
        grpc.insecure_channel(gateway.address) as channel,
    ):
        stub = deployment_pb2_grpc.DeploymentServiceStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            stub.ListDeployments(deployment_pb2.ListDeploymentsRequest())
        assert isinstance(refused.value, grpc.Call)
        assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert not (tmp_path / "steersman.db").exists()


def test_what_is_deleted_by_hand_comes_back_and_routes_split_traffic(
    stack: Stack, deployments: deployment_pb2_grpc.DeploymentServiceStub, bundle: Bundle, other_bundle: Bundle
) -> None:
    """One story, since starting replicas takes long: drift, a canary, a promotion, a rollback, the audit trail."""
    deployments.Deploy(deployment_pb2.DeployRequest(policy="drift", version=1, bundle_uri=str(bundle.folder)))
    assert wait_for(deployments, "drift", is_ready) is not None
    ServeApi(stack.settings).drop("drift")
    wait_for(deployments, "drift", lambda found: not is_ready(found))
    assert wait_for(deployments, "drift", is_ready) is not None

    deployments.Deploy(deployment_pb2.DeployRequest(policy="drift", version=2, bundle_uri=str(other_bundle.folder)))
    wait_for(deployments, "drift", is_ready)
    route = deployment_pb2.Route(
        weights=[
            deployment_pb2.RouteWeight(version=1, weight=1),
            deployment_pb2.RouteWeight(version=2, weight=1),
        ]
    )
    split = deployments.SetRoute(deployment_pb2.SetRouteRequest(policy="drift", route=route)).deployment
    with pytest.raises(grpc.RpcError) as refused:
        deployments.Rollback(deployment_pb2.RollbackRequest(policy="drift", expected_revision=split.revision - 1))
    assert isinstance(refused.value, grpc.Call)
    assert refused.value.code() == grpc.StatusCode.ABORTED
    with PolicyClient("drift", address=stack.settings.gateway_address) as client:
        assert {client.request(OBSERVATION).version for _ in range(40)} == {1, 2}
        registry = MlflowClient(stack.settings.mlflow_url)
        registry.create_registered_model("drift")
        registry.create_model_version("drift", "s3://nowhere/drift")
        deployments.SetAlias(deployment_pb2.SetAliasRequest(policy="drift", alias="candidate", version=1))
        wait_for(deployments, "drift", lambda _: registry.get_registered_model("drift").aliases == {"candidate": "1"})
        with PolicyClient("drift@candidate", address=stack.settings.gateway_address) as candidate:
            assert {candidate.request(OBSERVATION).version for _ in range(10)} == {1}
        deployments.Promote(
            deployment_pb2.PromoteRequest(policy="drift", from_alias="candidate"),
            metadata=(("x-steersman-actor", "the tests"),),
        )
        assert {client.request(OBSERVATION).version for _ in range(10)} == {1}
        deployments.Rollback(deployment_pb2.RollbackRequest(policy="drift"))
        assert {client.request(OBSERVATION).version for _ in range(40)} == {1, 2}
    records = deployments.ListAudit(deployment_pb2.ListAuditRequest(policy="drift")).records
    assert [record.action for record in records] == [
        "rollback",
        "promote",
        "set_alias",
        "set_route",
        "deploy",
        "deploy",
    ]
    assert records[1].actor == "the tests"
    deployments.Undeploy(deployment_pb2.UndeployRequest(policy="drift"))
    wait_for(deployments, "drift", is_gone)
