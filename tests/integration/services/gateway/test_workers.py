"""Several gateway processes: on one port, and at addresses of their own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import numpy as np
import psutil
import pytest

from services.common.bundle import Bundle
from services.policy.runtime import PolicyRuntime
from steersman import tensors
from steersman.aio import PolicyClient
from steersman.v1 import deployment_pb2, deployment_pb2_grpc, policy_pb2, policy_pb2_grpc
from tests.gateways import GatewayProcess, describe, gateway_process, replica_process, until_replicas

pytestmark = pytest.mark.integration

WORKERS = 2
OBSERVATIONS = np.random.default_rng(4).normal(size=(64, 4)).astype(np.float32)


class Callers:
    """Clients of the SDK that ask over and over and expect the right answer each time."""

    def __init__(self, clients: list[PolicyClient], bundle: Bundle) -> None:
        self._clients = clients
        self._expected = PolicyRuntime(bundle).compute({"observation": OBSERVATIONS})["action"]
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self.answered = 0

    def start(self) -> None:
        """Starts to ask."""
        self._tasks = [asyncio.create_task(self._ask(client)) for client in self._clients]

    async def until(self, more: int) -> None:
        """Waits for so many more answers."""
        wanted = self.answered + more
        async with asyncio.timeout(20):
            while True:
                if self.answered >= wanted:
                    return
                for task in self._tasks:
                    if task.done():
                        task.result()
                await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """Stops; raises what any of them raised."""
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def _ask(self, client: PolicyClient) -> None:
        while not self._stopping:
            for row, expected in zip(OBSERVATIONS, self._expected, strict=True):
                assert await client.act(row, timeout=20) == expected
                self.answered += 1


def worker_pids(gateway: GatewayProcess) -> set[int]:
    return {child.pid for child in psutil.Process(gateway.process.pid).children()}


def connected_workers(gateway: GatewayProcess) -> set[int]:
    """Lists the processes that some client is connected to."""
    port = int(gateway.address.rpartition(":")[2])
    return {
        pid
        for pid in worker_pids(gateway)
        for connection in psutil.Process(pid).net_connections("tcp")
        if connection.laddr.port == port and connection.status == psutil.CONN_ESTABLISHED
    }


async def connections(gateway: GatewayProcess, count: int) -> AsyncIterator[policy_pb2_grpc.PolicyServiceAsyncStub]:
    """Opens connections one by one; channels to one address share theirs unless told otherwise."""
    for _ in range(count):
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(gateway.address, options=options) as channel:
            yield policy_pb2_grpc.PolicyServiceStub(channel)


async def until_all_workers_have_replicas(gateway: GatewayProcess, policy: str) -> None:
    """Waits until every connection of many reaches a process that has a replica."""
    async with asyncio.timeout(30):
        while True:
            try:
                async for stub in connections(gateway, 16):
                    await stub.GetPolicy(policy_pb2.GetPolicyRequest(policy=policy), timeout=5)
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.05)
            else:
                return


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    with gateway_process(tmp_path, gateway_workers=WORKERS) as process:
        yield process


async def test_connections_are_spread_over_the_processes_and_replicas_attach_to_all(
    gateway: GatewayProcess, bundle: Bundle
) -> None:
    request = policy_pb2.ActRequest(policy="spread", observation={"observation": tensors.encode(OBSERVATIONS[0])})
    with replica_process("spread", bundle, gateway):
        await until_all_workers_have_replicas(gateway, "spread")
        asked = 32
        # Each process counts what it answered, so that the counts tell how many there are.
        counts = []
        async for stub in connections(gateway, asked):
            await stub.Act(request, timeout=10)
            description = await stub.GetPolicy(policy_pb2.GetPolicyRequest(policy="spread"), timeout=10)
            assert description.policy.replicas == 1
            counts.append(description.policy.statistics.answered)
    assert max(counts) < asked, "no process answered everything"
    assert counts.count(1) == WORKERS


async def test_a_killed_process_is_replaced_and_clients_lose_nothing(gateway: GatewayProcess, bundle: Bundle) -> None:
    before = worker_pids(gateway)
    assert len(before) == WORKERS
    with replica_process("killed", bundle, gateway):
        await until_all_workers_have_replicas(gateway, "killed")
        clients = [PolicyClient("killed", address=gateway.address) for _ in range(8)]
        callers = Callers(clients, bundle)
        callers.start()
        await callers.until(200)
        # The clients of one process share a connection; killing the process at its other end hurts.
        victim = min(connected_workers(gateway))
        os.kill(victim, signal.SIGKILL)
        await callers.until(200)
        await until_all_workers_have_replicas(gateway, "killed")
        await callers.until(200)
        await callers.stop()
        for client in clients:
            await client.close()
    after = worker_pids(gateway)
    assert len(after) == WORKERS
    assert after & before == before - {victim}
    gateway.process.terminate()
    assert await asyncio.to_thread(gateway.process.wait, 20) == 0
    assert not any(psutil.pid_exists(pid) for pid in after)


async def test_processes_follow_each_others_changes_also_one_that_was_killed(
    gateway: GatewayProcess, bundle: Bundle
) -> None:
    observation = {"observation": tensors.encode(OBSERVATIONS[0])}

    async def until_all_know(alias: str, seconds: float) -> None:
        """Waits until every connection of many reaches a process that knows an alias."""
        request = policy_pb2.ActRequest(policy=f"followed@{alias}", observation=observation)
        async with asyncio.timeout(seconds):
            while True:
                try:
                    async for stub in connections(gateway, 16):
                        await stub.Act(request, timeout=5)
                except grpc.aio.AioRpcError:
                    await asyncio.sleep(0.02)
                else:
                    return

    with replica_process("followed", bundle, gateway):
        await until_all_workers_have_replicas(gateway, "followed")
        async with grpc.aio.insecure_channel(gateway.address) as channel:
            stub = deployment_pb2_grpc.DeploymentServiceStub(channel)
            # There is no Ray to bring it about, but what is wanted is known all the same.
            await stub.Deploy(deployment_pb2.DeployRequest(policy="followed", version=1, bundle_uri=str(bundle.folder)))
            await stub.SetAlias(deployment_pb2.SetAliasRequest(policy="followed", alias="first", version=1))
            await until_all_know("first", 2)
        os.kill(min(worker_pids(gateway)), signal.SIGKILL)
        await until_all_workers_have_replicas(gateway, "followed")
        await until_all_know("first", 10)


async def test_a_client_of_two_gateways_uses_both_and_outlives_one(tmp_path: Path, bundle: Bundle) -> None:
    with (
        gateway_process(tmp_path / "first") as first,
        gateway_process(tmp_path / "second") as second,
        replica_process("two", bundle, first, second),
    ):
        await until_replicas(first, "two", 1)
        await until_replicas(second, "two", 1)
        async with PolicyClient("two", address=[first.address, second.address]) as client:
            callers = Callers([client] * 8, bundle)
            callers.start()
            await callers.until(400)
            counts = [(await describe(gateway, "two")).statistics.answered for gateway in (first, second)]
            assert min(counts) > 0.8 * max(counts), "the calls take turns"
            first.process.terminate()
            assert await asyncio.to_thread(first.process.wait, 20) == 0
            await callers.until(400)
            await callers.stop()
        assert (await describe(second, "two")).statistics.failed == 0


async def test_whoever_watches_one_process_sees_what_all_of_them_do(tmp_path: Path, bundle: Bundle) -> None:
    with (
        gateway_process(tmp_path, gateway_workers=WORKERS, ray_dashboard_url="") as gateway,
        replica_process("watched", bundle, gateway),
    ):
        await until_all_workers_have_replicas(gateway, "watched")
        request = policy_pb2.ActRequest(policy="watched", observation={"observation": tensors.encode(OBSERVATIONS[0])})
        async with grpc.aio.insecure_channel(gateway.address) as channel:
            call = deployment_pb2_grpc.DeploymentServiceStub(channel).WatchDeployments(
                deployment_pb2.WatchDeploymentsRequest(policy="watched", interval_milliseconds=200)
            )
            watching = aiter(call)
            first = await anext(watching)
            assert [entry.deployment.policy for entry in first.policies] == ["watched"]
            # So many that they all go to one process once in a million runs.
            asked = 20
            async for stub in connections(gateway, asked):
                await stub.Act(request, timeout=10)
            seen = 0.0
            async with asyncio.timeout(10):
                before = first.time.ToDatetime()
                while round(seen) < asked:
                    update = await anext(watching)
                    now = update.time.ToDatetime()
                    activity = update.policies[0].activity
                    assert activity.gateway_processes == WORKERS
                    seen += activity.requests_per_second * (now - before).total_seconds()
                    before = now
            gateway.process.terminate()
            with contextlib.suppress(grpc.aio.AioRpcError):
                async for _ in watching:
                    pass
            assert await call.code() == grpc.StatusCode.UNAVAILABLE
