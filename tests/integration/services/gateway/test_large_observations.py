"""Observations so large that a batch of as many as a replica takes would not fit into a message."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from services.common.bundle import Bundle
from services.policy.runtime import PolicyRuntime
from steersman import tensors
from steersman.v1 import policy_pb2
from tests.bundles import write_linear_bundle
from tests.gateways import GatewayProcess, describe, gateway_process, policy_stub, replica_process, until_replicas

pytestmark = pytest.mark.integration

MEBIBYTE = 1024 * 1024
NUMBERS = 780 * 1024 // 4
"""In an observation of 780 KiB."""


@pytest.fixture(scope="module")
def large_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_linear_bundle(tmp_path_factory.mktemp("large"), observation_size=NUMBERS, actions=5)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with gateway_process(tmp_path_factory.mktemp("gateway")) as process:
        yield process


def act_request(policy: str, observation: np.ndarray) -> policy_pb2.ActRequest:
    return policy_pb2.ActRequest(policy=policy, observation={"observation": tensors.encode(observation)})


async def test_300_requests_of_780_kib_at_once_are_all_answered(gateway: GatewayProcess, large_bundle: Bundle) -> None:
    observations = np.random.default_rng(0).normal(size=(4, NUMBERS)).astype(np.float32)
    expected = PolicyRuntime(large_bundle).compute({"observation": observations})["action"]
    # Slow enough that most of them wait: together they are 234 MB, where the link takes 67.
    with replica_process("large", large_bundle, gateway, compute_seconds=0.3):
        await until_replicas(gateway, "large", 1)
        async with policy_stub(gateway) as stub:
            calls = [stub.Act(act_request("large", observations[index % 4]), timeout=120) for index in range(300)]
            answers = await asyncio.gather(*calls)
        policy = await describe(gateway, "large")
    assert [tensors.decode(answer.action["action"]) for answer in answers] == [expected[i % 4] for i in range(300)]
    counted = policy.statistics
    assert (counted.answered, counted.failed, counted.requeued_batches) == (300, 0, 0)
    assert policy.replicas == 1


async def test_a_request_larger_than_a_batch_may_be_is_split(gateway: GatewayProcess, large_bundle: Bundle) -> None:
    observations = np.random.default_rng(1).normal(size=(60, NUMBERS)).astype(np.float32)
    expected = PolicyRuntime(large_bundle).compute({"observation": observations})["action"]
    small = 16 * MEBIBYTE
    with replica_process("split", large_bundle, gateway, max_message_bytes=small):
        await until_replicas(gateway, "split", 1)
        async with policy_stub(gateway) as stub:
            answer = await stub.Act(act_request("split", observations), timeout=120)
        counted = (await describe(gateway, "split")).statistics
    assert tensors.decode(answer.action["action"]).tolist() == expected.tolist()
    assert (counted.batches, counted.requeued_batches) == (3, 0), "20 of them fit into 16 MiB"


async def test_an_observation_that_never_fits_fails_at_once_and_costs_no_replica(
    gateway: GatewayProcess, large_bundle: Bundle
) -> None:
    observation = np.ones(NUMBERS, np.float32)
    with replica_process("never", large_bundle, gateway, max_message_bytes=512 * 1024):
        await until_replicas(gateway, "never", 1)
        async with policy_stub(gateway) as stub:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.Act(act_request("never", observation), timeout=60)
        policy = await describe(gateway, "never")
    assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert "where the replica takes 524288" in str(refused.value.details())
    assert "raise max_message_bytes" in str(refused.value.details())
    assert (policy.replicas, policy.statistics.failed, policy.statistics.requeued_batches) == (1, 1, 0)


async def test_answers_are_bounded_as_well(tmp_path: Path) -> None:
    """The distribution's parameters of one observation are 400 kB, where the gateway takes a megabyte."""
    bundle = write_linear_bundle(tmp_path / "bundle", observation_size=4, actions=100_000)
    with (
        gateway_process(tmp_path / "gateway", max_message_bytes=MEBIBYTE) as gateway,
        replica_process("talkative", bundle, gateway, compute_seconds=0.05),
    ):
        await until_replicas(gateway, "talkative", 1)
        request = act_request("talkative", np.ones(4, np.float32))
        request.options.action_distribution_inputs = True
        async with policy_stub(gateway) as stub:
            answers = await asyncio.gather(*(stub.Act(request, timeout=60) for _ in range(20)))
        policy = await describe(gateway, "talkative")
    assert all(len(answer.extras["action_distribution_inputs"].data) == 400_000 for answer in answers)
    counted = policy.statistics
    assert (counted.answered, counted.requeued_batches, policy.replicas) == (20, 0, 1)
    assert counted.batches >= 10, "two answers fit into a message"
