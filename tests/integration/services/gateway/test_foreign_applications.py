"""Applications on the same Ray Serve that are not Steersman's survive everything that Steersman does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import httpx
import pytest

from services.common.bundle import Bundle
from steersman.v1 import deployment_pb2, deployment_pb2_grpc
from tests.conftest import Stack
from tests.gateways import gateway_process
from tests.integration.services.gateway.test_deployments import is_failed, is_gone, is_ready, wait_for
from tests.serve_api import ServeApi

pytestmark = [pytest.mark.integration, pytest.mark.long]

SECRET = "a secret that only the application's own config has"  # noqa: S105 - nobody's


@pytest.fixture(scope="module")
def serve(own_serving: Stack) -> ServeApi:
    return ServeApi(own_serving.settings)


@pytest.fixture(scope="module")
def deployments(own_serving: Stack, bundle: Bundle) -> Iterator[deployment_pb2_grpc.DeploymentServiceStub]:
    """The admin API; a policy was there, so that Ray Serve runs as the gateway starts it."""
    with grpc.insecure_channel(own_serving.settings.gateway_address) as channel:
        stub = deployment_pb2_grpc.DeploymentServiceStub(channel)
        deploy(stub, "first", bundle)
        undeploy(stub, "first")
        yield stub


def deploy(
    stub: deployment_pb2_grpc.DeploymentServiceStub,
    policy: str,
    bundle: Bundle,
    condition: Callable[[deployment_pb2.Deployment | None], bool] = is_ready,
) -> deployment_pb2.Deployment:
    stub.Deploy(deployment_pb2.DeployRequest(policy=policy, version=1, bundle_uri=str(bundle.folder)))
    found = wait_for(stub, policy, condition)
    assert found is not None
    return found


def undeploy(stub: deployment_pb2_grpc.DeploymentServiceStub, policy: str) -> None:
    stub.Undeploy(deployment_pb2.UndeployRequest(policy=policy))
    wait_for(stub, policy, is_gone)


def test_a_declared_application_keeps_its_name_and_its_route(
    serve: ServeApi, deployments: deployment_pb2_grpc.DeploymentServiceStub, bundle: Bundle
) -> None:
    serve.declare("taken", "/routed", SECRET)
    serve.set_target_capacity(100.0)
    replicas = serve.replicas("taken")
    assert len(replicas) == 3, "two deployments, one of them with two replicas"
    before = serve.details()

    named = deploy(deployments, "taken", bundle, is_failed)
    assert "expected the name 'taken' to be free on Ray Serve" in named.message
    routed = deploy(deployments, "routed", bundle, is_failed)
    assert "the route /routed" in routed.message
    assert "'taken', which is not Steersman's" in routed.message
    # Others are not held up.
    deploy(deployments, "bystander", bundle)
    undeploy(deployments, "bystander")
    undeploy(deployments, "taken")

    after = serve.details()
    assert serve.get("/routed").json() == {"secret": SECRET}
    assert serve.replicas("taken") == replicas
    assert (
        after["applications"]["taken"]["deployed_app_config"] == before["applications"]["taken"]["deployed_app_config"]
    )
    for settings in ("proxy_location", "http_options", "grpc_options", "target_capacity"):
        assert after[settings] == before[settings]
    still = wait_for(deployments, "routed", is_failed)
    assert still is not None
    assert still.message == routed.message

    serve.withdraw("taken")
    wait_for(deployments, "routed", is_ready)
    assert serve.get("/routed").json() == {"versions": [1]}
    undeploy(deployments, "routed")


def test_an_application_that_a_program_runs_keeps_its_name_and_its_route(
    serve: ServeApi, deployments: deployment_pb2_grpc.DeploymentServiceStub, bundle: Bundle
) -> None:
    serve.run("taken", "/routed")
    replicas = serve.replicas("taken")
    assert "the name 'taken'" in deploy(deployments, "taken", bundle, is_failed).message
    assert "'taken', which is not Steersman's" in deploy(deployments, "routed", bundle, is_failed).message
    deploy(deployments, "bystander", bundle)
    undeploy(deployments, "bystander")
    undeploy(deployments, "routed")
    assert serve.get("/routed").json() == {"secret": ""}
    assert serve.replicas("taken") == replicas
    serve.delete("taken")
    wait_for(deployments, "taken", is_ready)
    assert serve.get("/taken").json() == {"versions": [1]}
    undeploy(deployments, "taken")


def test_a_policy_that_a_program_has_replaced_is_not_taken_back_by_force(
    serve: ServeApi, deployments: deployment_pb2_grpc.DeploymentServiceStub, bundle: Bundle
) -> None:
    deploy(deployments, "replaced", bundle)
    serve.run("replaced", "/replaced")
    failed = wait_for(deployments, "replaced", is_failed)
    assert failed is not None
    assert "the name 'replaced'" in failed.message
    deploy(deployments, "bystander", bundle)
    assert serve.get("/replaced").json() == {"secret": ""}
    undeploy(deployments, "replaced")
    undeploy(deployments, "bystander")
    assert serve.get("/replaced").json() == {"secret": ""}
    serve.delete("replaced")


def test_reports_of_another_shape_hold_up_nobody(
    serve: ServeApi, deployments: deployment_pb2_grpc.DeploymentServiceStub, bundle: Bundle
) -> None:
    """Ray Serve asks autoscaling policies unguarded: one that raises stops all applications from being deployed."""
    serve.declare("odd", "/odd", SECRET, app="odd_reports")
    serve.until(lambda: int(serve.get("/odd").text) > 50)
    deploy(deployments, "bystander", bundle)
    undeploy(deployments, "bystander")
    assert serve.application("odd")["status"] == "RUNNING"
    serve.withdraw("odd")


def test_two_gateways_that_change_things_at_once_harm_nobody(
    own_serving: Stack,
    serve: ServeApi,
    deployments: deployment_pb2_grpc.DeploymentServiceStub,
    bundle: Bundle,
    tmp_path: Path,
) -> None:
    serve.declare("neighbour", "/neighbour", SECRET)
    replicas = serve.replicas("neighbour")
    settings = own_serving.settings
    stopping, failures = threading.Event(), list[str]()

    def ask() -> None:
        while not stopping.wait(0.02):
            try:
                if serve.get("/neighbour").json() != {"secret": SECRET}:
                    failures.append("another answer")
            except (httpx.HTTPError, ValueError) as error:
                failures.append(repr(error))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        with (
            # The two do not agree where replicas attach, so that each goes on changing what the other has declared.
            gateway_process(
                tmp_path,
                database_url=settings.database,
                ray_dashboard_url=settings.ray_dashboard_url,
                ray_token_path=str(settings.ray_token_file),
                serve_http_address=settings.serve_http_address,
                gateway_peers=[settings.gateway_replica_address],
            ) as other,
            grpc.insecure_channel(other.address) as channel,
        ):
            stubs = [deployments, deployment_pb2_grpc.DeploymentServiceStub(channel)]
            request = deployment_pb2.DeployRequest(policy="contested", version=1, bundle_uri=str(bundle.folder))
            for _ in range(3):
                for stub in stubs:
                    stub.Deploy(request)
                    stub.Deploy(deployment_pb2.DeployRequest(policy="neighbour", version=1, bundle_uri="/nowhere"))
                for stub in stubs[::-1]:
                    failed = wait_for(stub, "neighbour", is_failed)
                    assert failed is not None
                    assert "the name 'neighbour'" in failed.message
                stubs[1].Undeploy(deployment_pb2.UndeployRequest(policy="neighbour"))
                stubs[0].Undeploy(deployment_pb2.UndeployRequest(policy="contested"))
        wait_for(deployments, "contested", is_gone)
        # It changes what is declared as a whole, as the test does in the end.
        serve.until(lambda: not serve.application("contested"))
    finally:
        stopping.set()
        asking.join()
    assert failures == []
    assert serve.replicas("neighbour") == replicas
    serve.withdraw("neighbour")
