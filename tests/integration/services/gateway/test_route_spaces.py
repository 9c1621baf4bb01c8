"""Versions of one policy whose spaces differ: never in one route, by whatever way it comes about."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from mlflow import MlflowClient

from services.common.bundle import Bundle
from steersman.aio import PolicyClient
from steersman.errors import InvalidArgumentError
from steersman.v1 import deployment_pb2, deployment_pb2_grpc
from tests.bundles import write_linear_bundle, write_recurrent_bundle
from tests.conftest import Stack
from tests.gateways import GatewayProcess, attached_replica, gateway_process

pytestmark = pytest.mark.integration

FOUR = np.array([0.1, -0.2, 0.3, -0.4], np.float32)
SIX = np.array([0.1, -0.2, 0.3, -0.4, 0.5, -0.6], np.float32)


@contextlib.asynccontextmanager
async def admin(address: str) -> AsyncIterator[deployment_pb2_grpc.DeploymentServiceAsyncStub]:
    async with grpc.aio.insecure_channel(address) as channel:
        yield deployment_pb2_grpc.DeploymentServiceStub(channel)


async def deploy(stub: deployment_pb2_grpc.DeploymentServiceAsyncStub, policy: str, version: int, folder: Path) -> None:
    await stub.Deploy(deployment_pb2.DeployRequest(policy=policy, version=version, bundle_uri=str(folder)))


def split(policy: str, *versions: int, shadow: int = 0) -> deployment_pb2.SetRouteRequest:
    weights = [deployment_pb2.RouteWeight(version=version, weight=50) for version in versions]
    route = deployment_pb2.Route(weights=weights)
    if shadow:
        route.shadow.CopyFrom(deployment_pb2.Shadow(version=shadow, share=1.0))
    return deployment_pb2.SetRouteRequest(policy=policy, route=route)


async def refusal(stub: deployment_pb2_grpc.DeploymentServiceAsyncStub, request: deployment_pb2.SetRouteRequest) -> str:
    """Has a route refused, and gives why."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.SetRoute(request)
    assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    return refused.value.details() or ""


async def deployment_of(stub: deployment_pb2_grpc.DeploymentServiceAsyncStub, policy: str) -> deployment_pb2.Deployment:
    listed = await stub.ListDeployments(deployment_pb2.ListDeploymentsRequest())
    return next(found for found in listed.deployments if found.policy == policy)


async def answered_by(gateway: GatewayProcess, policy: str, observation: np.ndarray) -> set[int]:
    """Asks 200 times, all of which have to be answered, and gives the versions that did."""
    async with PolicyClient(policy, address=gateway.address) as client:
        answers = await asyncio.gather(*(client.request(observation) for _ in range(200)))
    return {answer.version for answer in answers}


async def test_a_route_over_different_spaces_is_refused_whether_they_are_loaded_or_not(
    gateway: GatewayProcess, tmp_path: Path
) -> None:
    four, six = write_linear_bundle(tmp_path / "four", 4), write_linear_bundle(tmp_path / "six", 6)
    bounded = write_linear_bundle(tmp_path / "bounded", 4, seed=1)
    async with admin(gateway.address) as stub:
        await deploy(stub, "spaces", 2, six.folder)
        await deploy(stub, "spaces", 3, bounded.folder)
        await deploy(stub, "spaces", 1, four.folder)
        for loaded in ({}, {1: four}, {1: four, 2: six, 3: bounded}):
            async with contextlib.AsyncExitStack() as replicas:
                if loaded:
                    await replicas.enter_async_context(attached_replica(gateway, "spaces", loaded))
                for request in (split("spaces", 1, 2), split("spaces", 1, shadow=2)):
                    words = await refusal(stub, request)
                    assert "version 1 with observations Box(-inf, inf, (4,), float32)" in words
                    assert "version 2 with observations Box(-inf, inf, (6,), float32)" in words
                assert [weight.version for weight in (await deployment_of(stub, "spaces")).route.weights] == [1]
        async with attached_replica(gateway, "spaces", {1: four, 2: six, 3: bounded}):
            await stub.SetRoute(split("spaces", 1, 3))
            assert await answered_by(gateway, "spaces", FOUR) == {1, 3}
            # One takes the other's place as a whole.
            await stub.Promote(deployment_pb2.PromoteRequest(policy="spaces", version=2))
            assert await answered_by(gateway, "spaces", SIX) == {2}
            await stub.Rollback(deployment_pb2.RollbackRequest(policy="spaces"))
            assert await answered_by(gateway, "spaces", FOUR) == {1, 3}
        await stub.Undeploy(deployment_pb2.UndeployRequest(policy="spaces"))


async def test_a_shadow_beside_memory_is_refused_whether_it_is_loaded_or_not(
    gateway: GatewayProcess, tmp_path: Path
) -> None:
    plain = write_linear_bundle(tmp_path / "plain", 1, 10)
    remembering = write_recurrent_bundle(tmp_path / "remembering")
    async with admin(gateway.address) as stub:
        await deploy(stub, "memory", 2, remembering.folder)
        await deploy(stub, "memory", 1, plain.folder)
        assert "version 2 has some: a shadow would need the state" in await refusal(stub, split("memory", 1, shadow=2))
        await stub.Promote(deployment_pb2.PromoteRequest(policy="memory", version=2))
        assert "version 2 has some" in await refusal(stub, split("memory", 2, shadow=1))
        await stub.SetRoute(split("memory", 1, 2))
        await stub.Undeploy(deployment_pb2.UndeployRequest(policy="memory"))


@pytest.mark.parametrize("shadow", [False, True])
async def test_what_nobody_could_know_is_not_followed_once_it_is_loaded(
    gateway: GatewayProcess, tmp_path: Path, shadow: bool
) -> None:
    """The bundles lie where this gateway cannot read; its replicas can."""
    four, six = write_linear_bundle(tmp_path / "four", 4), write_linear_bundle(tmp_path / "six", 6)
    async with admin(gateway.address) as stub:
        await deploy(stub, "unknown", 2, Path("/elsewhere/six"))
        await deploy(stub, "unknown", 1, Path("/elsewhere/four"))
        await stub.SetRoute(split("unknown", 1, shadow=2) if shadow else split("unknown", 1, 2))
        async with attached_replica(gateway, "unknown", {1: four, 2: six}):
            assert await answered_by(gateway, "unknown", FOUR) == {1}
            found = await deployment_of(stub, "unknown")
            assert found.state == deployment_pb2.DEPLOYMENT_STATE_FAILED
            assert found.message.startswith(
                "version 2 gets no requests: it has observations Box(-inf, inf, (6,), float32) and actions "
                "Discrete(2), but version 1 of the same route has observations Box(-inf, inf, (4,), float32)"
            )
            assert found.message.endswith("version 1 goes on")
            async with PolicyClient("unknown", address=gateway.address) as client:
                with pytest.raises(InvalidArgumentError):
                    await client.request(SIX)
            async with PolicyClient("unknown:2", address=gateway.address) as client:
                assert (await client.request(SIX)).version == 2
        await stub.Undeploy(deployment_pb2.UndeployRequest(policy="unknown"))


async def test_a_rollback_to_such_a_route_is_refused(gateway: GatewayProcess, tmp_path: Path) -> None:
    four, six = write_linear_bundle(tmp_path / "four", 4), write_linear_bundle(tmp_path / "six", 6)
    other = tmp_path / "other"
    shutil.copytree(four.folder, other)
    async with admin(gateway.address) as stub:
        await deploy(stub, "back", 2, other)
        await deploy(stub, "back", 1, four.folder)
        await stub.SetRoute(split("back", 1, 2))
        # The version is deployed anew, with a bundle that takes something else.
        await deploy(stub, "back", 2, six.folder)
        with pytest.raises(grpc.aio.AioRpcError, match="with the same spaces but for bounds"):
            await stub.Rollback(deployment_pb2.RollbackRequest(policy="back"))
        await stub.Undeploy(deployment_pb2.UndeployRequest(policy="back"))


def register(mlflow: MlflowClient, policy: str, bundle: Bundle) -> None:
    """Registers a bundle as the trainer does."""
    run = mlflow.create_run("0")
    mlflow.log_artifacts(run.info.run_id, str(bundle.folder), "bundle")
    mlflow.create_model_version(policy, f"{run.info.artifact_uri}/bundle", run_id=run.info.run_id)


async def test_spaces_of_registered_versions_are_read_from_mlflow(stack: Stack, tmp_path: Path) -> None:
    mlflow = MlflowClient(stack.settings.mlflow_url)
    mlflow.create_registered_model("registered")
    for size in (4, 6, 4):
        register(mlflow, "registered", write_linear_bundle(tmp_path / f"bundle-{size}", size))
    # No Ray is needed for that.
    with gateway_process(tmp_path / "gateway", mlflow_url=stack.settings.mlflow_url) as gateway:
        async with admin(gateway.address) as stub:
            accepted = await stub.Deploy(deployment_pb2.DeployRequest(policy="registered", version=1))
            assert accepted.deployment.bundle_uri.startswith("mlflow-artifacts:/")
            words = await refusal(stub, split("registered", 1, 2))
            assert "version 2 with observations Box(-inf, inf, (6,), float32)" in words
            await stub.SetRoute(split("registered", 1, 3))
