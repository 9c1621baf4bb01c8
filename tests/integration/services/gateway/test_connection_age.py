"""Connections that have reached their age are replaced, and no client of ours loses a request by it."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
import pytest

from services.common.bundle import Bundle
from steersman import PolicyClient
from steersman.aio import ActionStream
from steersman.aio import PolicyClient as AsyncPolicyClient
from steersman.inference.v1 import inference_pb2
from steersman.v1 import policy_pb2
from tests.gateways import GatewayProcess, attached_replica, gateway_process, policy_stub
from tests.inference_stub import infer_request

pytestmark = pytest.mark.integration

AGE_SECONDS = 1.0
OBSERVATION = np.ones(4, np.float32)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    with gateway_process(tmp_path, ray_dashboard_url="", gateway_connection_age_seconds=AGE_SECONDS) as process:
        yield process


@contextlib.asynccontextmanager
async def connections(gateway: GatewayProcess) -> AsyncIterator[set[int]]:
    """Collects the ports that clients connect from until the block ends."""
    port = int(gateway.address.rpartition(":")[2])
    process = psutil.Process(gateway.process.pid)
    seen: set[int] = set()

    async def look() -> None:
        while True:
            for connection in await asyncio.to_thread(process.net_connections, "tcp"):
                if connection.laddr.port == port and connection.raddr:
                    seen.add(connection.raddr.port)
            await asyncio.sleep(0.05)

    looking = asyncio.create_task(look())
    try:
        yield seen
    finally:
        looking.cancel()


async def test_streams_and_calls_move_over_and_lose_nothing(gateway: GatewayProcess, bundle: Bundle) -> None:
    async with (
        attached_replica(gateway, "linear", {1: bundle}),
        connections(gateway) as seen,
        AsyncPolicyClient("linear", address=gateway.address) as client,
        client.stream() as stream,
    ):
        known = len(seen)
        # Through at least three connections one after the other, whatever else is on the machine.
        deadline = time.monotonic() + 60
        answered = 0

        async def ask_on(asked: AsyncPolicyClient | ActionStream) -> None:
            nonlocal answered
            while len(seen) < known + 6:
                assert time.monotonic() < deadline, f"expected new connections, got {len(seen)}"
                await asked.act(OBSERVATION)
                answered += 1

        def ask_on_a_thread() -> None:
            with PolicyClient("linear", address=gateway.address) as blocking, blocking.stream() as blocking_stream:
                while len(seen) < known + 6:
                    blocking_stream.act(OBSERVATION)

        await asyncio.gather(
            *(ask_on(stream) for _ in range(8)), *(ask_on(client) for _ in range(4)), asyncio.to_thread(ask_on_a_thread)
        )
    assert answered > 100


async def test_an_idle_stream_is_told_to_end_in_good_time(gateway: GatewayProcess, bundle: Bundle) -> None:
    async with attached_replica(gateway, "linear", {1: bundle}), policy_stub(gateway) as stub:
        began = time.monotonic()
        answers = [answer async for answer in stub.ActStream(timeout=30)]
        seconds = time.monotonic() - began
    assert [answer.WhichOneof("result") for answer in answers] == ["goodbye"]
    assert isinstance(answers[0], policy_pb2.ActStreamResponse)
    assert seconds > 0.5 * AGE_SECONDS


async def test_an_inference_stream_answers_all_it_took_and_says_that_it_ends(
    gateway: GatewayProcess, bundle: Bundle
) -> None:
    request = infer_request("linear", {"observation": OBSERVATION}).SerializeToString()

    def ask_on() -> tuple[int, grpc.StatusCode, str]:
        """Asks again after each answer until the stream ends; gives the answers, and why it ended."""
        turns: queue.SimpleQueue[bool] = queue.SimpleQueue()
        turns.put(True)

        def requests() -> Iterator[bytes]:
            while turns.get():
                yield request

        answered = 0
        with grpc.insecure_channel(gateway.address) as channel:
            call: Any = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
            answers = call(requests(), timeout=30)
            try:
                for data in answers:
                    assert not inference_pb2.ModelStreamInferResponse.FromString(data).error_message
                    answered += 1
                    turns.put(True)
            except grpc.RpcError:
                turns.put(False)
            return answered, answers.code(), answers.details()

    async with attached_replica(gateway, "linear", {1: bundle}):
        answered, code, details = await asyncio.to_thread(ask_on)
    assert answered > 10
    assert code == grpc.StatusCode.UNAVAILABLE
    assert "belongs on another one" in details
