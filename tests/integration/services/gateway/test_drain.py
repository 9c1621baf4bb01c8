"""A gateway that is told to stop says so, answers what it has taken, takes nothing new and goes."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common.bundle import Bundle
from services.policy.runtime import PolicyRuntime
from steersman import tensors
from steersman.v1 import policy_pb2
from tests.gateways import (
    GatewayProcess,
    gateway_process,
    policy_stub,
    replica_process,
    silent_replica,
    until_replicas,
    until_waiting,
)

pytestmark = pytest.mark.integration

GRACE_SECONDS = 2.0
"""Of a gateway that has something to wait for; one that has not ends at once, however long it might wait."""
OBSERVATION = np.ones(4, np.float32)
REQUEST = policy_pb2.ActRequest(policy="drained", observation={"observation": tensors.encode(OBSERVATION)})


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    with gateway_process(tmp_path, shutdown_grace_seconds=GRACE_SECONDS) as process:
        yield process


async def exit_code(gateway: GatewayProcess) -> int:
    """Waits for the gateway to end."""
    return await asyncio.to_thread(gateway.process.wait, 20)


async def test_what_is_in_flight_is_answered_and_nothing_new_is_taken(gateway: GatewayProcess, bundle: Bundle) -> None:
    runtime = PolicyRuntime(bundle)
    expected = runtime.compute({"observation": OBSERVATION[np.newaxis]})["action"][0]
    async with (
        silent_replica(gateway, "drained", bundle) as replica,
        policy_stub(gateway) as stub,
        grpc.aio.insecure_channel(gateway.address) as health_channel,
    ):
        health: Any = health_pb2_grpc.HealthStub(health_channel)
        watch = health.Watch(health_pb2.HealthCheckRequest(service="steersman.v1.PolicyService"))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING

        computing = stub.Act(REQUEST, timeout=20)
        batch = await replica.next_batch()
        waiting = stub.Act(REQUEST, timeout=20)
        stream = stub.ActStream()
        await stream.write(policy_pb2.ActStreamRequest(id=7, request=REQUEST))
        await until_waiting(gateway, "drained", 2)

        gateway.process.terminate()
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        goodbye = await stream.read()
        assert isinstance(goodbye, policy_pb2.ActStreamResponse)
        assert goodbye.WhichOneof("result") == "goodbye"
        # On the old connection as well as on a new one.
        async with policy_stub(gateway) as newcomer:
            for other in (stub, newcomer):
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await other.Act(REQUEST, timeout=5)
                assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
        assert gateway.process.poll() is None

        replica.answer(batch, runtime)
        replica.answer(await replica.next_batch(), runtime)
        for call in (computing, waiting):
            assert tensors.decode((await call).action["action"]) == expected
        answer = await stream.read()
        assert isinstance(answer, policy_pb2.ActStreamResponse)
        assert answer.id == 7
        assert tensors.decode(answer.response.action["action"]) == expected
        assert await stream.read() is grpc.aio.EOF
        assert await stream.code() == grpc.StatusCode.OK
        watch.cancel()
        assert await exit_code(gateway) == 0


async def test_under_load_every_request_is_answered_or_was_never_taken(gateway: GatewayProcess, bundle: Bundle) -> None:
    expected = PolicyRuntime(bundle).compute({"observation": OBSERVATION[np.newaxis]})["action"][0]
    answered = 0

    async def ask() -> None:
        nonlocal answered
        while True:
            try:
                response = await stub.Act(REQUEST, timeout=10)
            except grpc.aio.AioRpcError as error:
                # CANCELLED is how gRPC itself ends a call that arrives at the very moment in which a server shuts down.
                assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)  # noqa: PT017 - any other is a loss
                return
            assert tensors.decode(response.action["action"]) == expected
            answered += 1

    with replica_process("drained", bundle, gateway, compute_seconds=0.02) as replica:
        await until_replicas(gateway, "drained", 1)
        async with policy_stub(gateway) as stub, asyncio.TaskGroup() as callers:
            for _ in range(16):
                callers.create_task(ask())
            async with asyncio.timeout(30):
                while True:
                    if answered > 100:
                        break
                    await asyncio.sleep(0.01)
            gateway.process.terminate()
        assert await exit_code(gateway) == 0
        assert replica.poll() is None


async def test_a_gateway_does_not_wait_for_ever(gateway: GatewayProcess, bundle: Bundle) -> None:
    async with silent_replica(gateway, "drained", bundle) as replica, policy_stub(gateway) as stub:
        call = stub.Act(REQUEST, timeout=60)
        await replica.next_batch()
        gateway.process.terminate()
        start = time.monotonic()
        assert await exit_code(gateway) == 0
        # 0.1 s more on a machine with nothing else to do.
        assert GRACE_SECONDS - 0.5 < time.monotonic() - start < GRACE_SECONDS + 10
        assert await call.code() == grpc.StatusCode.UNAVAILABLE


async def test_idle_streams_end_at_once(bundle: Bundle, tmp_path: Path) -> None:
    grace = 60.0
    with (
        gateway_process(tmp_path, shutdown_grace_seconds=grace) as gateway,
        replica_process("drained", bundle, gateway),
    ):
        await until_replicas(gateway, "drained", 1)
        async with policy_stub(gateway) as stub:
            stream = stub.ActStream()
            await stream.write(policy_pb2.ActStreamRequest(id=1, request=REQUEST))
            await stream.read()
            gateway.process.terminate()
            start = time.monotonic()
            goodbye = await stream.read()
            assert isinstance(goodbye, policy_pb2.ActStreamResponse)
            assert goodbye.HasField("goodbye")
            assert await stream.code() == grpc.StatusCode.OK
            assert await exit_code(gateway) == 0
            assert time.monotonic() - start < grace / 4
