"""Gateways and replicas for tests: real processes and real streams, without Ray."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc

from services.common.bundle import Bundle
from services.policy.replica import Replica
from services.policy.runtime import PolicyRuntime
from steersman.aio import PolicyClient
from steersman.errors import SteersmanError
from steersman.v1 import policy_pb2_grpc
from tests.ports import free_address


@dataclass(frozen=True)
class GatewayProcess:
    """A gateway of its own, that knows no Ray.

    Attributes:
        address: Where clients find it.
        replica_address: Where replicas find it.
        process: The process.
    """

    address: str
    replica_address: str
    process: subprocess.Popen[bytes]


@contextlib.contextmanager
def gateway_process(var_dir: Path) -> Iterator[GatewayProcess]:
    """Runs a gateway until the block ends."""
    address, replica_address, nobody = free_address(), free_address(), free_address()
    environment = os.environ | {
        "STEERSMAN_GATEWAY_ADDRESS": address,
        "STEERSMAN_GATEWAY_REPLICA_ADDRESS": replica_address,
        "STEERSMAN_RAY_DASHBOARD_URL": f"http://{nobody}",
        "STEERSMAN_MLFLOW_URL": f"http://{nobody}",
        "STEERSMAN_VAR_DIR": str(var_dir),
    }
    process = subprocess.Popen([sys.executable, "-m", "services.gateway"], env=environment)
    try:
        with grpc.insecure_channel(address) as channel:
            grpc.channel_ready_future(channel).result(timeout=30)
        yield GatewayProcess(address, replica_address, process)
    finally:
        process.terminate()
        process.wait(timeout=30)


@contextlib.asynccontextmanager
async def attached_replica(
    gateway: GatewayProcess, policy: str, bundles: Mapping[int, Bundle], max_batch_size: int = 256
) -> AsyncIterator[Replica]:
    """Attaches a replica until the block ends; it is ready when the block begins."""
    replica = Replica(policy, f"{policy}-replica", [gateway.replica_address], max_batch_size, 64 * 1024 * 1024)
    await replica.load({version: lambda bundle=bundle: PolicyRuntime(bundle) for version, bundle in bundles.items()})  # type: ignore[misc]
    replica.start()
    try:
        async with PolicyClient(policy, address=gateway.address) as client:
            await until_described(client)
        yield replica
    finally:
        await replica.leave()


async def until_described(client: PolicyClient) -> None:
    """Waits until a policy can be described, that is, until a replica is attached."""
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(SteersmanError):
                await client.describe()
                return
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def policy_stub(gateway: GatewayProcess) -> AsyncIterator[policy_pb2_grpc.PolicyServiceAsyncStub]:
    """Opens a plain stub, without the SDK's checks and retries."""
    async with grpc.aio.insecure_channel(gateway.address, options=[("grpc.enable_retries", 0)]) as channel:
        yield policy_pb2_grpc.PolicyServiceStub(channel)
