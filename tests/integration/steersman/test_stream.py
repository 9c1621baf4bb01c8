"""The SDK's streams over real gRPC, without Ray."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from services.common.bundle import Bundle
from services.policy.runtime import PolicyRuntime
from steersman import ActOptions, PolicyClient
from steersman.aio import PolicyClient as AsyncPolicyClient
from steersman.errors import DeadlineExceededError, InvalidArgumentError, UnavailableError
from tests.bundles import write_linear_bundle
from tests.gateways import GatewayProcess, attached_replica, gateway_process

pytestmark = pytest.mark.integration

BATCH = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with gateway_process(tmp_path_factory.mktemp("gateway")) as process:
        yield process


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_linear_bundle(tmp_path_factory.mktemp("bundle"), actions=7)


def expected(bundle: Bundle) -> np.ndarray:
    return PolicyRuntime(bundle).compute({"observation": BATCH})["action"]


async def test_many_requests_are_in_flight_on_one_stream(gateway: GatewayProcess, bundle: Bundle) -> None:
    async with (
        attached_replica(gateway, "linear", {1: bundle}),
        AsyncPolicyClient("linear", address=gateway.address) as client,
        client.stream() as stream,
    ):
        actions = await asyncio.gather(*(stream.act(row) for row in BATCH))
        np.testing.assert_array_equal(actions, expected(bundle))
        np.testing.assert_array_equal(await stream.act(BATCH), expected(bundle))
        sampled = [await stream.request(BATCH, ActOptions(deterministic=False, seed=5)) for _ in range(2)]
        np.testing.assert_array_equal(sampled[0].action, sampled[1].action)


async def test_the_sync_stream_says_the_same(gateway: GatewayProcess, bundle: Bundle) -> None:
    def ask() -> list[np.ndarray]:
        with PolicyClient("linear", address=gateway.address) as client, client.stream() as stream:
            futures = [stream.submit(row) for row in BATCH]
            assert stream.act(BATCH[0]) == stream.request(BATCH[0]).action
            return [future.result().action for future in futures]

    async with attached_replica(gateway, "linear", {1: bundle}):
        np.testing.assert_array_equal(await asyncio.to_thread(ask), expected(bundle))


async def test_a_bad_request_fails_alone(gateway: GatewayProcess, bundle: Bundle) -> None:
    async with (
        attached_replica(gateway, "linear", {1: bundle}),
        AsyncPolicyClient("linear", address=gateway.address) as client,
        client.stream() as stream,
    ):
        await client.describe()
        good = asyncio.gather(*(stream.act(row) for row in BATCH))
        with pytest.raises(InvalidArgumentError, match="got 1 bytes that no gateway of this installation gave"):
            await stream.request(BATCH[0], ActOptions(state=b"x"))
        np.testing.assert_array_equal(await good, expected(bundle))


async def test_a_stream_outlives_its_gateway(tmp_path: Path, bundle: Bundle) -> None:
    """Two gateways; the one that is in use stops, says goodbye, and the stream goes on at the other one."""
    with gateway_process(tmp_path) as first, gateway_process(tmp_path) as second:
        async with (
            attached_replica(first, "linear", {1: bundle}),
            attached_replica(second, "linear", {1: bundle}),
            AsyncPolicyClient("linear", address=[first.address, second.address]) as client,
            client.stream() as stream,
        ):
            expected_actions = expected(bundle)
            stop = asyncio.Event()
            answered: asyncio.Queue[None] = asyncio.Queue()

            async def ask_on() -> None:
                while not stop.is_set():
                    np.testing.assert_array_equal(await stream.act(BATCH), expected_actions)
                    answered.put_nowait(None)

            asking = [asyncio.create_task(ask_on()) for _ in range(8)]
            for gateway in (first, second):
                async with asyncio.timeout(20):
                    for _ in range(50):
                        await answered.get()
                if gateway is first:
                    first.process.terminate()
                    assert await asyncio.to_thread(first.process.wait, 20) == 0
            stop.set()
            await asyncio.gather(*asking)


async def test_without_anybody_to_answer_a_request_ends(gateway: GatewayProcess, bundle: Bundle) -> None:
    async with AsyncPolicyClient("brief", address=gateway.address) as client:
        async with attached_replica(gateway, "brief", {1: bundle}):
            await client.describe()
        async with client.stream() as stream:
            with pytest.raises((UnavailableError, DeadlineExceededError)):
                await stream.act(BATCH[0], timeout=1)
