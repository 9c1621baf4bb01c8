"""Gateways and replicas for tests: real processes and real connections, without Ray."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc

from deploy.free_ports import free_ports, free_ports_in_a_row
from services.common import sockets
from services.common.bundle import Bundle
from services.common.frames import FrameProtocol
from services.policy.replica import Replica
from services.policy.runtime import PolicyRuntime
from steersman import tensors
from steersman.aio import PolicyClient, RetryPolicy
from steersman.aio import open_channel as open_aio_channel
from steersman.client import ConnectionOptions, open_channel
from steersman.errors import SteersmanError
from steersman.v1 import policy_pb2, policy_pb2_grpc, replica_pb2


@dataclass(frozen=True)
class GatewayProcess:
    """A gateway of its own, that knows no Ray.

    Attributes:
        address: Where clients find it.
        replica_addresses: Where replicas find it: each of its processes.
        process: The process; with several workers, the one that started them.
    """

    address: str
    replica_addresses: list[str]
    process: subprocess.Popen[bytes]

    @property
    def replica_address(self) -> str:
        """Where replicas find the first process."""
        return self.replica_addresses[0]


@contextlib.contextmanager
def gateway_process(var_dir: Path, **settings: object) -> Iterator[GatewayProcess]:
    """Runs a gateway until the block ends.

    Args:
        var_dir: Folder for its state.
        **settings: Settings that differ from the defaults.
    """
    workers = settings.get("gateway_workers", 1)
    assert isinstance(workers, int)
    (port, nobody), replica_port = free_ports(2), free_ports_in_a_row(workers)
    address = f"127.0.0.1:{port}"
    chosen = {
        "gateway_address": address,
        "gateway_replica_address": f"127.0.0.1:{replica_port}",
        "ray_dashboard_url": f"http://127.0.0.1:{nobody}",
        "mlflow_url": f"http://127.0.0.1:{nobody}",
        "var_dir": str(var_dir),
    } | settings
    environment = os.environ | {
        f"STEERSMAN_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
        for name, value in chosen.items()
    }
    process = subprocess.Popen([sys.executable, "-m", "services.gateway"], env=environment)
    try:
        with open_channel(ConnectionOptions((address,))) as channel:
            grpc.channel_ready_future(channel).result(timeout=30)
        yield GatewayProcess(address, [f"127.0.0.1:{replica_port + worker}" for worker in range(workers)], process)
    finally:
        process.terminate()
        process.wait(timeout=30)


@contextlib.contextmanager
def replica_process(
    policy: str,
    bundle: Bundle,
    *gateways: GatewayProcess,
    compute_seconds: float = 0.0,
    max_batch_size: int = 256,
    max_message_bytes: int = 64 * 1024 * 1024,
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs `tests.replica_process` until the block ends. It attaches soon; `until_replicas` waits for that.

    Args:
        policy: The policy that it serves, as version 1.
        bundle: What it loads.
        *gateways: Whom it attaches to.
        compute_seconds: How much longer than needed each batch takes.
        max_batch_size: The most observations that it takes in one batch.
        max_message_bytes: The largest message that it takes.
    """
    command = [sys.executable, "-m", "tests.replica_process", policy, str(bundle.folder)]
    command += [f"--compute-seconds={compute_seconds}", f"--max-batch-size={max_batch_size}"]
    command += [f"--max-message-bytes={max_message_bytes}"]
    command += [f"--gateway={address}" for gateway in gateways for address in gateway.replica_addresses]
    process = subprocess.Popen(command)
    try:
        yield process
    finally:
        # One that was stopped has to go on before it can hear anything.
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.asynccontextmanager
async def attached_replica(
    gateway: GatewayProcess, policy: str, bundles: Mapping[int, Bundle], max_batch_size: int = 256
) -> AsyncIterator[Replica]:
    """Attaches a replica until the block ends; it is ready when the block begins."""
    replica = Replica(policy, f"{policy}-replica", gateway.replica_addresses, max_batch_size, 64 * 1024 * 1024)
    await replica.load({version: lambda bundle=bundle: PolicyRuntime(bundle) for version, bundle in bundles.items()})  # type: ignore[misc]
    replica.start()
    try:
        async with PolicyClient(policy, address=gateway.address) as client:
            await until_described(client)
        yield replica
    finally:
        await replica.leave()


class SilentReplica(FrameProtocol):
    """A replica that takes batches and never answers, until it hangs up.

    Attributes:
        is_closed: Set when the connection is gone.
    """

    def __init__(self) -> None:
        super().__init__(64 * 1024 * 1024)
        self.is_closed = asyncio.Event()
        self._batches: asyncio.Queue[replica_pb2.Batch] = asyncio.Queue()

    def message_received(self, message: bytes) -> None:
        """Keeps a batch."""
        self._batches.put_nowait(replica_pb2.AttachResponse.FromString(message).batch)

    def closed(self) -> None:
        """Says so."""
        self.is_closed.set()

    def tell(self, message: replica_pb2.AttachRequest) -> None:
        """Sends any message."""
        self.send(message.SerializeToString())

    async def next_batch(self) -> replica_pb2.Batch:
        """Waits for a batch."""
        return await self._batches.get()

    def answer(self, batch: replica_pb2.Batch, runtime: PolicyRuntime) -> None:
        """Answers a batch after all."""
        inputs = {name: tensors.decode(tensor) for name, tensor in batch.inputs.items()}
        outputs = {name: tensors.encode(array) for name, array in runtime.compute(inputs).items()}
        answer = replica_pb2.BatchAnswer(outputs=outputs, compute_microseconds=1)
        self.tell(replica_pb2.AttachRequest(result=replica_pb2.BatchResult(id=batch.id, answer=answer)))

    def hang_up(self) -> None:
        """Ends the connection without a word."""
        self.abort()


@contextlib.asynccontextmanager
async def connected_replica(gateway: GatewayProcess) -> AsyncIterator[SilentReplica]:
    """Connects a replica that has not announced itself yet."""
    replica = await sockets.connect(gateway.replica_address, SilentReplica)
    try:
        yield replica
    finally:
        replica.hang_up()
        await replica.is_closed.wait()


@contextlib.asynccontextmanager
async def silent_replica(
    gateway: GatewayProcess, policy: str, bundle: Bundle, max_batch_size: int = 8
) -> AsyncIterator[SilentReplica]:
    """Attaches a replica that takes one batch at a time, and answers only when it is told to."""
    # The runtime's spec and not the bundle's, since only that one lists the extras.
    loaded = replica_pb2.LoadedVersion(version=1, spec=PolicyRuntime(bundle).spec)
    announce = replica_pb2.Announce(
        policy=policy,
        replica_id="silent",
        versions=[loaded],
        max_batches_in_flight=1,
        max_batch_size=max_batch_size,
    )
    async with connected_replica(gateway) as replica:
        replica.tell(replica_pb2.AttachRequest(announce=announce))
        await until_replicas(gateway, policy, 1)
        yield replica


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
    options = ConnectionOptions((gateway.address,), retry=RetryPolicy(max_attempts=1))
    async with open_aio_channel(options) as channel:
        yield policy_pb2_grpc.PolicyServiceStub(channel)


async def describe(gateway: GatewayProcess, policy: str) -> policy_pb2.Policy:
    """Describes a policy as the gateway sees it, statistics included.

    Raises:
        grpc.aio.AioRpcError: If the gateway knows no such policy.
    """
    async with policy_stub(gateway) as stub:
        return (await stub.GetPolicy(policy_pb2.GetPolicyRequest(policy=policy), timeout=10)).policy


async def until_replicas(gateway: GatewayProcess, policy: str, count: int) -> None:
    """Waits until so many replicas of a policy are attached."""
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):
                if (await describe(gateway, policy)).replicas == count:
                    return
            await asyncio.sleep(0.02)


async def until_counted(
    gateway: GatewayProcess, policy: str, condition: Callable[[policy_pb2.PolicyStatistics], bool]
) -> None:
    """Waits until a policy's statistics are as wanted."""
    async with asyncio.timeout(30):
        while True:
            if condition((await describe(gateway, policy)).statistics):
                return
            await asyncio.sleep(0.005)


async def until_waiting(gateway: GatewayProcess, policy: str, observations: int) -> None:
    """Waits until so many observations wait for a replica."""
    await until_counted(gateway, policy, lambda counted: counted.waiting == observations)
