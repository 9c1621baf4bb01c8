"""The adapter against a running Ray Serve: one that says things otherwise fails here, and not in a reconciler."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc
import pytest

from services.common.bundle import Bundle
from services.gateway.control.desired import RunningPolicy
from services.gateway.control.ray_serve.applications import Application, State
from services.gateway.control.ray_serve.client import RayServe
from services.gateway.control.ray_serve.writing import read_running_policy
from services.gateway.control.scaling import Scale
from steersman.settings import port_of
from steersman.v1 import deployment_pb2, deployment_pb2_grpc
from tests.conftest import Stack
from tests.integration.services.gateway.test_deployments import is_failed, is_gone, is_ready, wait_for
from tests.serve_api import ServeApi

pytestmark = [pytest.mark.integration, pytest.mark.long]


@pytest.fixture
async def ray_serve(own_serving: Stack) -> AsyncIterator[RayServe]:
    settings = own_serving.settings
    host, _, _ = settings.serve_http_address.rpartition(":")
    client = RayServe(settings.ray_dashboard_url, settings.ray_token_file, host, port_of(settings.serve_http_address))
    yield client
    await client.close()


async def until(ray_serve: RayServe, name: str, condition: Callable[[Application], bool]) -> Application:
    """Waits until an application is as wanted."""
    async with asyncio.timeout(60):
        while True:
            found = (await ray_serve.instance()).applications.get(name)
            if found is not None and condition(found):
                return found
            await asyncio.sleep(0.05)


async def test_what_runs_is_read_and_told_as_it_is(
    own_serving: Stack, ray_serve: RayServe, bundle: Bundle, tmp_path: Path
) -> None:
    serve = ServeApi(own_serving.settings)
    with grpc.insecure_channel(own_serving.settings.gateway_address) as channel:
        deployments = deployment_pb2_grpc.DeploymentServiceStub(channel)

        request = deployment_pb2.DeployRequest(policy="contract", version=1, bundle_uri=str(bundle.folder))
        request.min_replicas, request.max_replicas, request.replica_cpus = 1, 2, 0.25
        deployments.Deploy(request)
        wait_for(deployments, "contract", is_ready)
        ours = await until(ray_serve, "contract", lambda found: found.state is State.RUNNING)
        assert (ours.route, ours.is_declared, ours.is_policy, ours.failure) == ("/contract", True, True, "")
        assert (ours.replicas_wanted, ours.replicas_starting, ours.replicas_stopping) == (1, 0, 0)
        assert ours.config is not None
        running = read_running_policy(ours.config)
        assert running == RunningPolicy(1, str(bundle.folder), Scale(1, 2, 0.25, 0.0))

        deployments.Deploy(deployment_pb2.DeployRequest(policy="broken", version=1, bundle_uri=str(tmp_path)))
        wait_for(deployments, "broken", is_failed)
        broken = await until(ray_serve, "broken", lambda found: found.state is State.FAILED)
        assert broken.failure == f"cannot read {tmp_path}/manifest.json: No such file or directory"

        # Secrets of others come as they are: what is read is what they are told again.
        serve.declare("declared", "/declared", "their secret")
        declared = await until(ray_serve, "declared", lambda found: found.state is State.RUNNING)
        assert (declared.route, declared.is_declared, declared.is_foreign) == ("/declared", True, True)
        assert declared.config is not None
        assert declared.config.json["runtime_env"]["env_vars"] == {"SHOP_SECRET": "their secret"}
        assert declared.replicas_wanted is None

        serve.run("program", "/program")
        program = await until(ray_serve, "program", lambda found: found.state is State.RUNNING)
        assert (program.route, program.is_declared, program.is_foreign, program.config) == (
            "/program",
            False,
            True,
            None,
        )

        # The whole set, told again as it was read, changes nothing.
        instance = await ray_serve.instance()
        replicas = {name: serve.replicas(name) for name in instance.applications}
        configs = [
            found.config
            for found in instance.applications.values()
            if found.is_declared and found.config is not None and found.state is not State.DELETING
        ]
        assert sorted(config.name for config in configs) == ["broken", "contract", "declared"]
        await ray_serve.replace(configs, instance.target_capacity)
        again = await ray_serve.instance()
        assert {name: found.config for name, found in again.applications.items()} == {
            name: found.config for name, found in instance.applications.items()
        }
        for name in ("contract", "declared", "program"):
            serve.until_running(name)
            assert serve.replicas(name) == replicas[name]

        deployments.Undeploy(deployment_pb2.UndeployRequest(policy="contract"))
        leaving = await until(ray_serve, "contract", lambda found: found.state is State.DELETING)
        assert not leaving.is_policy
        assert not leaving.is_foreign
        deployments.Undeploy(deployment_pb2.UndeployRequest(policy="broken"))
        for policy in ("contract", "broken"):
            wait_for(deployments, policy, is_gone)
        serve.withdraw("declared")
        serve.delete("program")
