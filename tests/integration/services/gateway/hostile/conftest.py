"""A gateway that hostile clients and replicas meet, and a neighbour who must not notice them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import grpc
import numpy as np
import psutil
import pytest

from services.common.bundle import Bundle
from services.policy.runtime import PolicyRuntime
from steersman import tensors
from steersman.v1 import policy_pb2_grpc
from tests.gateways import GatewayProcess, gateway_process, replica_process, until_replicas
from tests.integration.services.gateway.hostile.requests import MAX_MESSAGE_BYTES, MEBIBYTE, OBSERVATION, REQUEST


@pytest.fixture(scope="package")
def gateway(tmp_path_factory: pytest.TempPathFactory, bundle: Bundle) -> Iterator[GatewayProcess]:
    var_dir = tmp_path_factory.mktemp("gateway")
    with (
        gateway_process(var_dir, max_message_bytes=MAX_MESSAGE_BYTES, queue_bytes=8 * MEBIBYTE) as process,
        replica_process("target", bundle, process),
    ):
        asyncio.run(until_replicas(process, "target", 1))
        yield process


@pytest.fixture(scope="package")
def channel(gateway: GatewayProcess) -> Iterator[grpc.Channel]:
    options = [("grpc.enable_retries", 0), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(gateway.address, options=options) as channel:
        yield channel


@pytest.fixture(autouse=True)
def neighbour(gateway: GatewayProcess, bundle: Bundle) -> Iterator[None]:
    """After each test the gateway runs, has not grown and answers others, rightly."""
    process = psutil.Process(gateway.process.pid)
    before = process.memory_info().rss
    yield
    assert gateway.process.poll() is None
    expected = PolicyRuntime(bundle).compute({"observation": OBSERVATION[np.newaxis]})["action"][0]
    with grpc.insecure_channel(gateway.address) as channel:
        response = policy_pb2_grpc.PolicyServiceStub(channel).Act(REQUEST, timeout=5)
    assert tensors.decode(response.action["action"]) == expected
    grown = (process.memory_info().rss - before) / MEBIBYTE
    assert grown < 100, f"the gateway grew by {grown:.0f} MiB"
