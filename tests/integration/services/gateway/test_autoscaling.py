"""Autoscaling by a real Ray Serve: up under load, down afterwards, to zero when idle, and back on the first request."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc
import numpy as np
import pytest

from steersman.aio import PolicyClient
from steersman.errors import DeadlineExceededError
from steersman.v1 import deployment_pb2, deployment_pb2_grpc
from tests.bundles import write_slow_bundle
from tests.conftest import Stack

pytestmark = [pytest.mark.integration, pytest.mark.long]

OBSERVATION = np.array([0.1, -0.2, 0.3, -0.4], np.float32)


def tell(what: str) -> None:
    print(what)  # noqa: T201 - what was measured is worth more than that it passed


async def until(
    stub: deployment_pb2_grpc.DeploymentServiceAsyncStub,
    what: str,
    condition: Callable[[deployment_pb2.Deployment], bool],
) -> float:
    """Waits until the deployment is as wanted; prints and gives the seconds that it took."""
    begin = time.monotonic()
    async with asyncio.timeout(90):
        while True:
            response = await stub.ListDeployments(deployment_pb2.ListDeploymentsRequest())
            if any(condition(deployment) for deployment in response.deployments if deployment.policy == "slow"):
                took = time.monotonic() - begin
                tell(f"{what}: {took:.2f} s")
                return took
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def load(client: PolicyClient, requests_per_second: float) -> AsyncIterator[list[asyncio.Task[object]]]:
    """Asks steadily, whether there are answers or not, until the block ends; then all of them must have come."""
    tasks: list[asyncio.Task[object]] = []

    async def ask() -> None:
        begin = time.monotonic()
        while True:
            await asyncio.sleep(max(0.0, begin + len(tasks) / requests_per_second - time.monotonic()))
            tasks.append(asyncio.create_task(client.act(OBSERVATION)))

    asking = asyncio.create_task(ask())
    try:
        yield tasks
    finally:
        asking.cancel()
        await asyncio.gather(*tasks)


async def test_a_policy_follows_its_load_and_is_there_again_for_the_first_request(stack: Stack, tmp_path: Path) -> None:
    bundle = write_slow_bundle(tmp_path / "slow")
    request = deployment_pb2.DeployRequest(
        policy="slow", version=1, bundle_uri=str(bundle.folder), min_replicas=1, max_replicas=2
    )
    async with (
        grpc.aio.insecure_channel(stack.settings.gateway_address) as channel,
        PolicyClient("slow", address=stack.settings.gateway_address, timeout=60) as client,
    ):
        stub = deployment_pb2_grpc.DeploymentServiceStub(channel)
        await stub.Deploy(request)
        # The first request need not wait for the deployment: it waits by itself.
        await client.act(OBSERVATION)
        begin, count = time.monotonic(), 20
        await asyncio.gather(*(client.act(OBSERVATION) for _ in range(count)))
        capacity = count / (time.monotonic() - begin)
        tell(f"one replica does {capacity:.0f} actions/s")

        async with load(client, 1.5 * capacity) as requests:
            decision = await until(stub, "from overload to the decision", lambda slow: slow.replicas_wanted == 2)
            await until(stub, "from there to the replica that answers", lambda slow: slow.replicas_ready == 2)
        tell(f"{len(requests)} requests, all answered")
        assert decision < 10, "2 s on a machine with nothing else to do"

        async with load(client, 0.1 * capacity):
            await until(stub, "from the end of the overload to the decision", lambda slow: slow.replicas_wanted == 1)
            await until(stub, "from there to one replica", lambda slow: slow.replicas_ready == 1)

        await stub.Deploy(
            deployment_pb2.DeployRequest(policy="slow", version=1, bundle_uri=str(bundle.folder), min_replicas=0)
        )
        await until(
            stub, "from the last request to zero", lambda slow: slow.replicas_wanted == 0 and slow.replicas_ready == 0
        )
        async with PolicyClient("slow", address=stack.settings.gateway_address, timeout=0.2) as hasty:
            with pytest.raises(DeadlineExceededError):
                await hasty.act(OBSERVATION)
        begin = time.monotonic()
        async with client.stream() as stream:
            await asyncio.gather(*(ask.act(OBSERVATION) for ask in (client, stream) for _ in range(5)))
        tell(f"from zero to the first answers: {time.monotonic() - begin:.2f} s")
        await stub.Undeploy(deployment_pb2.UndeployRequest(policy="slow"))
