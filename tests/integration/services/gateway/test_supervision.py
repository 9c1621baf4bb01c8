"""What happens in the background and goes wrong is seen in health, is tried again, and costs the data plane nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common.bundle import Bundle
from steersman.aio import PolicyClient
from steersman.v1 import deployment_pb2, deployment_pb2_grpc
from tests.dashboard import Dashboard
from tests.databases import sqlite_only
from tests.gateways import GatewayProcess, attached_replica, gateway_process
from tests.http_server import HttpAnswer, http_server

pytestmark = pytest.mark.integration

OBSERVATION = np.array([0.1, -0.2, 0.3, -0.4], np.float32)
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
ADMIN = "steersman.v1.DeploymentService"


@dataclass
class Admin:
    """The admin API of a gateway, and what health says of it."""

    deployments: deployment_pb2_grpc.DeploymentServiceAsyncStub
    health: Any

    async def status(self, service: str) -> int:
        answer = await self.health.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
        status: int = answer.status
        return status

    async def until(self, status: int) -> None:
        """Waits until health says so of the admin API; of all else it says SERVING throughout."""
        async with asyncio.timeout(20):
            watching = self.health.Watch(health_pb2.HealthCheckRequest(service=ADMIN))
            async for answer in watching:
                if answer.status == status:
                    break
            watching.cancel()
        assert await self.status("") == SERVING
        assert await self.status("steersman.v1.PolicyService") == SERVING

    async def problems(self) -> str:
        listed = await self.deployments.ListDeployments(deployment_pb2.ListDeploymentsRequest(), timeout=30)
        return "; ".join(listed.problems)


@contextlib.asynccontextmanager
async def admin_of(gateway: GatewayProcess) -> AsyncIterator[Admin]:
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        yield Admin(deployment_pb2_grpc.DeploymentServiceStub(channel), health_pb2_grpc.HealthStub(channel))


def token_folder(path: Path) -> Callable[[], None]:
    """Puts a folder where Ray's token was; gives what undoes it."""
    path.unlink()
    path.mkdir()

    def undo() -> None:
        path.rmdir()
        path.write_text("token")

    return undo


async def test_a_dashboard_that_answers_anything_ends_nothing(tmp_path: Path, bundle: Bundle) -> None:
    dashboard = Dashboard()
    token = tmp_path / "token"
    token.write_text("token")
    with (
        http_server(dashboard) as server,
        gateway_process(tmp_path, ray_dashboard_url=server.url, ray_token_path=str(token)) as gateway,
    ):
        async with (
            admin_of(gateway) as admin,
            attached_replica(gateway, "linear", {1: bundle}),
            PolicyClient("linear", address=gateway.address) as client,
        ):
            request = deployment_pb2.DeployRequest(policy="linear", version=1, bundle_uri=str(bundle.folder))
            await admin.deployments.Deploy(request)
            await admin.until(SERVING)
            whole = json.dumps({"applications": {"linear": {"status": "RUNNING"}}}).encode()
            answers = {
                "expected JSON": HttpAnswer(b"<html>Sign in</html>", content_type="text/html"),
                "expected an object at $.applications": HttpAnswer(b'{"applications": [1]}'),
                "expected a field 'applications'": HttpAnswer(b"{}"),
                "expected a field 'deployments' at $.applications.linear": HttpAnswer(whole),
                "answered with status 302": HttpAnswer(status=302, headers={"location": "/login"}),
                "cannot reach": HttpAnswer(raw=b"SSH-2.0-OpenSSH_9.2\r\n"),
            }
            for words, answer in answers.items():
                dashboard.instead = answer
                await admin.until(NOT_SERVING)
                problems = await admin.problems()
                assert problems.startswith("Ray Serve: ")
                assert words in problems
                assert "next try in" in problems
                assert (await client.request(OBSERVATION)).version == 1
                dashboard.instead = None
                await admin.until(SERVING)
                assert await admin.problems() == ""
            undo = token_folder(token)
            await admin.until(NOT_SERVING)
            assert "expected to read Ray's token" in await admin.problems()
            # What is asked for meanwhile is done once it can be.
            request.version = 2
            await admin.deployments.Deploy(request)
            undo()
            await admin.until(SERVING)
            async with asyncio.timeout(20):
                await asyncio.to_thread(dashboard.told_version_2.wait)


@sqlite_only
async def test_a_database_that_answers_nonsense_ends_nothing(tmp_path: Path, bundle: Bundle) -> None:
    with http_server(Dashboard()) as server, gateway_process(tmp_path, ray_dashboard_url=server.url) as gateway:
        async with (
            admin_of(gateway) as admin,
            attached_replica(gateway, "linear", {1: bundle}),
            PolicyClient("linear", address=gateway.address) as client,
        ):
            request = deployment_pb2.DeployRequest(policy="linear", version=1, bundle_uri=str(bundle.folder))
            await admin.deployments.Deploy(request)
            await admin.until(SERVING)
            with contextlib.closing(sqlite3.connect(tmp_path / "steersman.db", isolation_level=None)) as database:
                spoilt = {
                    "expected policy 'linear' in the database as Steersman writes it": (
                        "UPDATE routes SET route = '{\"oops\": 1}'",
                        'UPDATE routes SET route = \'{"weights": {"1": 1.0}}\'',
                    ),
                    "expected JSON in the database": (
                        "UPDATE routes SET route = 'oops'",
                        'UPDATE routes SET route = \'{"weights": {"1": 1}}\'',
                    ),
                    "no such table": ("ALTER TABLE versions RENAME TO hidden", "ALTER TABLE hidden RENAME TO versions"),
                }
                for words, (spoil, mend) in spoilt.items():
                    database.execute("BEGIN IMMEDIATE")
                    database.execute(spoil)
                    database.execute("UPDATE state SET revision = revision + 1")
                    database.execute("COMMIT")
                    await admin.until(NOT_SERVING)
                    with pytest.raises(grpc.aio.AioRpcError) as refused:
                        await admin.problems()
                    assert words in (refused.value.details() or "")
                    assert (await client.request(OBSERVATION)).version == 1
                    database.execute(mend)
                    await admin.until(SERVING)
                    assert await admin.problems() == ""


@sqlite_only
async def test_a_database_that_stays_locked_refuses_changes_and_ends_nothing(tmp_path: Path, bundle: Bundle) -> None:
    with http_server(Dashboard()) as server, gateway_process(tmp_path, ray_dashboard_url=server.url) as gateway:
        async with (
            admin_of(gateway) as admin,
            attached_replica(gateway, "linear", {1: bundle}),
            PolicyClient("linear", address=gateway.address) as client,
        ):
            request = deployment_pb2.DeployRequest(policy="linear", version=1, bundle_uri=str(bundle.folder))
            await admin.deployments.Deploy(request)
            await admin.until(SERVING)
            with contextlib.closing(sqlite3.connect(tmp_path / "steersman.db", isolation_level=None)) as database:
                database.execute("BEGIN EXCLUSIVE")
                with pytest.raises(grpc.aio.AioRpcError, match="database is locked"):
                    await admin.deployments.Deploy(request, timeout=30)
                assert (await client.request(OBSERVATION)).version == 1
                database.execute("ROLLBACK")
            await admin.deployments.Deploy(request, timeout=30)
            await admin.until(SERVING)
