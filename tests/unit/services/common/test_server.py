from __future__ import annotations

from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common.server import Service, create_server
from steersman.settings import Settings

POLICIES = "steersman.v1.PolicyService"
DEPLOYMENTS = "steersman.v1.DeploymentService"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICES = [Service(name, lambda _: None) for name in (POLICIES, DEPLOYMENTS)]
"""Without methods: this is about their health."""


async def test_one_service_may_say_that_it_does_not_serve() -> None:
    server = create_server(Settings(), "127.0.0.1:0", SERVICES, grace_seconds=0.0)
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
        await server.stop()
        await server.set_serving(DEPLOYMENTS, serving=True)
        assert (await watching.read()).status == NOT_SERVING
