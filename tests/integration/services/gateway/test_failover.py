"""Replicas that die, hang or fail: nothing is lost, and only what causes it fails."""

import asyncio
import contextlib
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Self

import grpc
import numpy as np
import pytest

from services.common.bundle import Bundle
from services.policy.runtime import PolicyRuntime
from steersman import tensors
from steersman.aio import PolicyClient
from steersman.errors import InternalError
from steersman.v1 import policy_pb2
from tests.gateways import (
    GatewayProcess,
    connected_replica,
    describe,
    gateway_process,
    policy_stub,
    replica_process,
    until_replicas,
)
from tests.replica_process import BROKEN, POISON

pytestmark = pytest.mark.integration

CALLERS = 16


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with gateway_process(tmp_path_factory.mktemp("gateway"), batch_timeout_seconds=1.0) as process:
        yield process


class Load:
    """Callers without retries that ask over and over, each the next when the last is answered."""

    def __init__(self, gateway: GatewayProcess, policy: str, bundle: Bundle) -> None:
        self._gateway = gateway
        self._policy = policy
        self._batch = np.random.default_rng(3).normal(size=(64, 4)).astype(np.float32)
        self._expected = PolicyRuntime(bundle).compute({"observation": self._batch})["action"]
        self._stopping = False
        self.answered = 0

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        await self.until(200)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping = True
        await self._task

    async def until(self, more: int) -> None:
        """Waits for so many more answers."""
        wanted = self.answered + more
        async with asyncio.timeout(20):
            while self.answered < wanted:
                if self._task.done():
                    self._task.result()
                await asyncio.sleep(0.01)

    async def _run(self) -> None:
        async with policy_stub(self._gateway) as stub, asyncio.TaskGroup() as callers:
            for caller in range(CALLERS):
                callers.create_task(self._ask(stub, caller))

    async def _ask(self, stub: object, caller: int) -> None:
        index = caller
        while not self._stopping:
            row = index % len(self._batch)
            request = act_request(self._policy, self._batch[row])
            response: policy_pb2.ActResponse = await stub.Act(request, timeout=15)  # type: ignore[attr-defined]
            assert tensors.decode(response.action["action"]) == self._expected[row]
            self.answered += 1
            index += 1


def act_request(policy: str, observation: np.ndarray) -> policy_pb2.ActRequest:
    return policy_pb2.ActRequest(policy=policy, observation={"observation": tensors.encode(observation)})


async def test_a_killed_replica_fails_no_request(gateway: GatewayProcess, bundle: Bundle) -> None:
    with (
        replica_process("killed", bundle, gateway, compute_seconds=0.005) as victim,
        replica_process("killed", bundle, gateway, compute_seconds=0.005),
    ):
        await until_replicas(gateway, "killed", 2)
        async with Load(gateway, "killed", bundle) as load:
            victim.kill()
            await until_replicas(gateway, "killed", 1)
            await load.until(200)
        statistics = (await describe(gateway, "killed")).statistics
    assert statistics.failed == 0
    assert statistics.answered >= load.answered
    assert statistics.requeued_batches >= 1, "it was killed at work"


async def test_what_a_hanging_replica_holds_goes_elsewhere_in_time(gateway: GatewayProcess, bundle: Bundle) -> None:
    with (
        replica_process("hanging", bundle, gateway, compute_seconds=0.005) as victim,
        replica_process("hanging", bundle, gateway, compute_seconds=0.005),
    ):
        await until_replicas(gateway, "hanging", 2)
        async with Load(gateway, "hanging", bundle) as load:
            victim.send_signal(signal.SIGSTOP)
            start = time.monotonic()
            await until_replicas(gateway, "hanging", 1)
            assert time.monotonic() - start < 10, "the limit is 1 s; by default it would be 30"
            await load.until(200)
            # Once it can go on, it dials again.
            victim.send_signal(signal.SIGCONT)
            await until_replicas(gateway, "hanging", 2)
            await load.until(200)
        statistics = (await describe(gateway, "hanging")).statistics
    assert statistics.failed == 0
    assert statistics.requeued_batches >= 1


async def test_who_connects_and_never_announces_itself_is_hung_up_on(gateway: GatewayProcess) -> None:
    async with connected_replica(gateway) as stranger, asyncio.timeout(3):
        await stranger.is_closed.wait()


async def test_a_poisonous_observation_fails_alone_after_three_replicas(
    gateway: GatewayProcess, bundle: Bundle
) -> None:
    poison = np.array([POISON, 0, 0, 0], np.float32)
    with contextlib.ExitStack() as stack:
        replicas: list[subprocess.Popen[bytes]] = [
            stack.enter_context(replica_process("poisoned", bundle, gateway, compute_seconds=0.005)) for _ in range(4)
        ]
        await until_replicas(gateway, "poisoned", 4)
        async with policy_stub(gateway) as stub, Load(gateway, "poisoned", bundle) as load:
            with pytest.raises(grpc.aio.AioRpcError, match="3 replicas were lost with it") as failed:
                await stub.Act(act_request("poisoned", poison), timeout=15)
            await load.until(200)
        assert failed.value.code() == grpc.StatusCode.INTERNAL
        assert [replica.poll() for replica in replicas].count(66) == 3
        statistics = (await describe(gateway, "poisoned")).statistics
    assert statistics.failed == 1, "the poison, and no neighbour"


async def test_an_error_is_isolated_to_the_observation_that_causes_it(gateway: GatewayProcess, bundle: Bundle) -> None:
    broken = np.array([BROKEN, 0, 0, 0], np.float32)
    good = np.ones((20, 4), np.float32)
    with replica_process("erring", bundle, gateway, compute_seconds=0.02):
        await until_replicas(gateway, "erring", 1)
        async with PolicyClient("erring", address=gateway.address) as client:
            await client.describe()
            # The first one keeps the replica busy, so that the others share a batch.
            calls = (
                [client.act(row) for row in good[:10]] + [client.act(broken)] + [client.act(row) for row in good[10:]]
            )
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
        statistics = (await describe(gateway, "erring")).statistics
    (error,) = (outcome for outcome in outcomes if isinstance(outcome, BaseException))
    assert isinstance(error, InternalError)
    assert "the model failed: this observation cannot be computed" in str(error)
    assert outcomes.index(error) == 10
    assert statistics.failed == 1
    assert statistics.requeued_batches == 0
