from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from services.common.server import Service, create_server, serve_until_stopped
from steersman.settings import Settings
from steersman.v1 import deployment_pb2, policy_pb2

POLICIES = "steersman.v1.PolicyService"
DEPLOYMENTS = "steersman.v1.DeploymentService"
GRACE_SECONDS = 20
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICES = [
    Service(policy_pb2.DESCRIPTOR.services_by_name["PolicyService"], object()),
    Service(
        deployment_pb2.DESCRIPTOR.services_by_name["DeploymentService"],
        object(),
    ),
]
"""Without methods: this is about their health."""


@pytest.mark.usefixtures("grpc_server")
async def test_one_service_may_say_that_it_does_not_serve() -> None:
    server = create_server(Settings(), "127.0.0.1:0", SERVICES, grace_seconds=GRACE_SECONDS)
    await server.set_serving(DEPLOYMENTS, serving=False)  # before the start
    await server.start()
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)

        async def statuses() -> list[int]:
            return [
                (await stub.Check(health_pb2.HealthCheckRequest(service=name))).status
                for name in ("", POLICIES, DEPLOYMENTS)
            ]

        assert await statuses() == [SERVING, SERVING, NOT_SERVING]
        await server.set_serving(DEPLOYMENTS, serving=True)
        assert await statuses() == [SERVING] * 3
        await server.set_serving(DEPLOYMENTS, serving=False)
        assert await statuses() == [SERVING, SERVING, NOT_SERVING]
        watching = stub.Watch(health_pb2.HealthCheckRequest(service=POLICIES))
        assert (await watching.read()).status == SERVING
        stopping = asyncio.create_task(server.stop())
        assert (await watching.read()).status == NOT_SERVING
        await server.set_serving(POLICIES, serving=True)
        # Whatever is set now is not told any more, and whoever watches does not hold up the end.
        with pytest.raises(grpc.aio.AioRpcError):
            await watching.read()
        await asyncio.wait_for(stopping, GRACE_SECONDS / 2)


@pytest.mark.usefixtures("grpc_server")
async def test_whoever_looks_at_its_services_does_not_hold_up_the_end() -> None:
    server = create_server(Settings(), "127.0.0.1:0", SERVICES, grace_seconds=GRACE_SECONDS)
    await server.start()
    async with grpc.aio.insecure_channel(server.address) as channel:
        make_stub: Any = reflection_pb2_grpc.ServerReflectionStub
        call = make_stub(channel).ServerReflectionInfo()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        listed = (await call.read()).list_services_response.service
        assert POLICIES in [service.name for service in listed]
        await asyncio.wait_for(server.stop(), GRACE_SECONDS / 2)
        assert await call.read() is grpc.aio.EOF


@pytest.mark.usefixtures("grpc_server")
async def test_a_server_that_ends_by_itself_ends_the_process() -> None:
    server = create_server(Settings(), "127.0.0.1:0", SERVICES, grace_seconds=0)
    serving = asyncio.create_task(serve_until_stopped(server))
    async with grpc.aio.insecure_channel(server.address) as channel:
        await channel.channel_ready()
    assert not serving.done()
    await server._server.stop(0)
    with pytest.raises(RuntimeError, match="one has ended by itself"):
        await serving


async def test_without_our_own_server_it_is_grpcio_s_with_a_line_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # As an import fails where there is no wheel: from this module on, as if it had not been imported yet.
    monkeypatch.delattr("services.common.native", raising=False)
    monkeypatch.setitem(sys.modules, "services.common.native", None)
    server = create_server(Settings(), "127.0.0.1:0", SERVICES, grace_seconds=0)
    assert "using grpcio's server: ours needs the package ngh2" in caplog.text
    await server.start()
    async with grpc.aio.insecure_channel(server.address) as channel:
        await channel.channel_ready()
    await server.stop()
