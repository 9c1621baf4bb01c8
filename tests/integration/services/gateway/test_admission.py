"""A full queue refuses at once and says when to come back; deadlines and cancellations cost no compute."""

import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncIterator, Iterator

import grpc
import numpy as np
import pytest

from services.common.bundle import Bundle
from services.policy.runtime import PolicyRuntime
from steersman import tensors
from steersman.aio import PolicyClient
from steersman.v1 import policy_pb2
from tests.gateways import (
    GatewayProcess,
    SilentReplica,
    describe,
    gateway_process,
    policy_stub,
    silent_replica,
    until_counted,
    until_waiting,
)

pytestmark = pytest.mark.integration

QUEUE_OBSERVATIONS = 8


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    var_dir = tmp_path_factory.mktemp("gateway")
    settings = {"queue_observations": QUEUE_OBSERVATIONS, "retry_pushback_milliseconds": 70}
    with gateway_process(var_dir, **settings) as process:
        yield process


def act_request(policy: str, size: int = 1, batch_priority: bool = False) -> policy_pb2.ActRequest:
    batch = np.ones((size, 4), np.float32)
    priority = policy_pb2.PRIORITY_BATCH if batch_priority else policy_pb2.PRIORITY_INTERACTIVE
    return policy_pb2.ActRequest(policy=policy, observation={"observation": tensors.encode(batch)}, priority=priority)


@contextlib.asynccontextmanager
async def busy_replica(gateway: GatewayProcess, policy: str, bundle: Bundle) -> AsyncIterator[SilentReplica]:
    """Attaches a replica that is busy: it holds one batch, and whatever comes next waits."""
    async with silent_replica(gateway, policy, bundle) as replica, policy_stub(gateway) as stub:
        call = stub.Act(act_request(policy), timeout=60)
        await replica.next_batch()
        yield replica
        call.cancel()


async def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(gateway: GatewayProcess, bundle: Bundle) -> None:
    async with busy_replica(gateway, "full", bundle), policy_stub(gateway) as stub:
        waiting = stub.Act(act_request("full", QUEUE_OBSERVATIONS), timeout=60)
        await until_waiting(gateway, "full", QUEUE_OBSERVATIONS)
        seconds = []
        for _ in range(50):
            start = time.perf_counter()
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.Act(act_request("full"), timeout=10)
            seconds.append(time.perf_counter() - start)
        waiting.cancel()
        counted = (await describe(gateway, "full")).statistics
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refused.value.details() == (
        "expected room for 1 observations (16 bytes), but 8 of 8 (128 of 268435456 bytes) wait already"
    )
    assert dict(refused.value.trailing_metadata())["grpc-retry-pushback-ms"] == "70"
    # 2 ms on a machine with nothing else to do; a queue that is waited for takes seconds.
    assert statistics.median(seconds) < 0.2
    assert counted.shed == 50


async def test_what_nobody_waits_for_is_shed_first(gateway: GatewayProcess, bundle: Bundle) -> None:
    async with busy_replica(gateway, "shed", bundle) as replica, policy_stub(gateway) as stub:
        patient = [stub.Act(act_request("shed", 4, batch_priority=True), timeout=60) for _ in range(2)]
        await until_waiting(gateway, "shed", 8)
        # As large as one of them: one has to go, and the latest does.
        urgent = stub.Act(act_request("shed", 4), timeout=60)
        done, pending = await asyncio.wait(
            [asyncio.ensure_future(outcome(call)) for call in patient], return_when=asyncio.FIRST_COMPLETED, timeout=10
        )
        assert [task.result() for task in done] == [grpc.StatusCode.RESOURCE_EXHAUSTED]
        assert len(pending) == 1
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Act(act_request("shed", 4, batch_priority=True), timeout=10)
        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        replica.hang_up()
        for call in (*patient, urgent):
            call.cancel()
        await asyncio.gather(*pending)


async def outcome(call: grpc.aio.UnaryUnaryCall[policy_pb2.ActRequest, policy_pb2.ActResponse]) -> grpc.StatusCode:
    """Waits for a call's status, even when it is cancelled meanwhile."""
    return await call.code()


async def test_the_client_comes_back_and_is_answered_when_there_is_room(
    gateway: GatewayProcess, bundle: Bundle
) -> None:
    runtime = PolicyRuntime(bundle)
    async with (
        silent_replica(gateway, "patient", bundle) as replica,
        policy_stub(gateway) as stub,
        PolicyClient("patient", address=gateway.address) as client,
    ):
        await client.describe()
        held = stub.Act(act_request("patient"), timeout=60)
        batch = await replica.next_batch()
        full = stub.Act(act_request("patient", QUEUE_OBSERVATIONS), timeout=60)
        await until_waiting(gateway, "patient", QUEUE_OBSERVATIONS)
        asked = asyncio.create_task(client.act(np.ones(4, np.float32)))
        await until_counted(gateway, "patient", lambda counted: counted.shed > 0)
        # Refused once; now everything is answered, so that there is room.
        replica.answer(batch, runtime)
        for _ in range(2):
            replica.answer(await replica.next_batch(), runtime)
        assert await asked == runtime.compute({"observation": np.ones((1, 4), np.float32)})["action"][0]
        await held
        await full


async def test_expired_and_cancelled_requests_are_counted_and_not_computed(
    gateway: GatewayProcess, bundle: Bundle
) -> None:
    runtime = PolicyRuntime(bundle)
    async with silent_replica(gateway, "late", bundle) as replica, policy_stub(gateway) as stub:
        held = stub.Act(act_request("late"), timeout=60)
        batch = await replica.next_batch()
        expiring = [stub.Act(act_request("late"), timeout=3) for _ in range(3)]
        cancelled = [stub.Act(act_request("late"), timeout=60) for _ in range(2)]
        stream = stub.ActStream()
        await stream.write(policy_pb2.ActStreamRequest(id=1, request=act_request("late"), timeout_milliseconds=3000))
        await until_waiting(gateway, "late", 6)
        for call in cancelled:
            call.cancel()
        answer = await stream.read()
        assert isinstance(answer, policy_pb2.ActStreamResponse)
        assert answer.error.code == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
        assert [await call.code() for call in expiring] == [grpc.StatusCode.DEADLINE_EXCEEDED] * 3
        await until_waiting(gateway, "late", 0)
        kept = stub.Act(act_request("late"), timeout=60)
        await until_waiting(gateway, "late", 1)
        replica.answer(batch, runtime)
        last = await replica.next_batch()
        assert list(last.inputs["observation"].shape) == [1, 4], "only what somebody still waits for"
        replica.answer(last, runtime)
        await held
        await kept
        stream.cancel()
        counted = (await describe(gateway, "late")).statistics
    assert (counted.answered, counted.expired, counted.cancelled) == (2, 4, 2)
    assert (counted.failed, counted.shed, counted.waiting) == (0, 0, 0)
    assert (counted.batches, counted.batched_observations) == (2, 2)


async def test_the_deadline_travels_to_the_replica(gateway: GatewayProcess, bundle: Bundle) -> None:
    async with silent_replica(gateway, "timed", bundle) as replica, policy_stub(gateway) as stub:
        call = stub.Act(act_request("timed"), timeout=7)
        batch = await replica.next_batch()
        call.cancel()
        # gRPC rounds deadlines up.
        assert 5e6 < batch.timeout_microseconds < 7.1e6
