"""Episodes of a policy with memory: carried by the client, or kept by the gateway."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import grpc
import numpy as np
import pytest

from services.common.bundle import Bundle
from steersman import tensors
from steersman.aio import ActOptions, PolicyClient
from steersman.errors import InvalidArgumentError
from steersman.v1 import policy_pb2, policy_pb2_grpc
from tests.bundles import write_counting_bundle
from tests.gateways import (
    GatewayProcess,
    attached_replica,
    gateway_process,
    policy_stub,
    replica_process,
    until_replicas,
)

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def counting(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_counting_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with gateway_process(tmp_path_factory.mktemp("gateway")) as process:
        yield process


def numbers(*values: float) -> np.ndarray:
    """Makes a batch of observations."""
    return np.array(values, np.float32)[:, np.newaxis]


async def step(
    stub: policy_pb2_grpc.PolicyServiceAsyncStub,
    ids: Sequence[str],
    values: Sequence[float],
    episode_start: Sequence[bool] = (),
) -> list[float]:
    """Takes a step of sessions that the gateway keeps."""
    request = policy_pb2.ActRequest(
        policy="counting",
        observation={"observation": tensors.encode(numbers(*values))},
        session_ids=ids,
        episode_start=episode_start,
    )
    response = await stub.Act(request, timeout=5)
    assert not response.state, "the gateway keeps it"
    actions: list[float] = tensors.decode(response.action["action"]).ravel().tolist()
    return actions


@contextlib.asynccontextmanager
async def refused_with(code: grpc.StatusCode, words: str) -> AsyncIterator[None]:
    with pytest.raises(grpc.aio.AioRpcError, match=words) as refused:
        yield
    assert refused.value.code() == code


async def test_predict_hands_on_the_state(gateway: GatewayProcess, counting: Bundle) -> None:
    async with (
        attached_replica(gateway, "counting", {1: counting}),
        PolicyClient("counting", address=gateway.address) as client,
    ):
        state = None
        for expected in (1, 2, 3):
            action, state = await client.predict(numbers(1)[0], state)
            assert action.tolist() == [expected]
        # A batch of three episodes; then the middle one ends and another begins.
        action, state = await client.predict(numbers(1, 2, 3))
        action, state = await client.predict(numbers(10, 20, 30), state)
        assert action.ravel().tolist() == [11, 22, 33]
        action, state = await client.predict(numbers(100, 200, 300), state, np.array([False, True, False]))
        assert action.ravel().tolist() == [111, 200, 333]
        action, _ = await client.predict(numbers(0, 0, 0), state)
        assert action.ravel().tolist() == [111, 200, 333]


async def test_ask_hands_on_the_state(gateway: GatewayProcess, counting: Bundle) -> None:
    async with (
        attached_replica(gateway, "counting", {1: counting}),
        PolicyClient("counting", address=gateway.address) as client,
    ):
        answer = await client.request(numbers(5)[0])
        answer = await client.request(numbers(6)[0], ActOptions(state=answer.state, extras=["value"]))
        assert answer.action.tolist() == [11]
        assert answer.extras["value"] == 5
        # A state is a value: two futures may begin with it.
        for future in (1, 2):
            followed = await client.request(numbers(future)[0], ActOptions(state=answer.state))
            assert followed.action.tolist() == [11 + future]
        with pytest.raises(InvalidArgumentError, match="expected the state of 2 observations"):
            await client.request(numbers(1, 2), ActOptions(state=answer.state))


async def test_a_state_that_was_tampered_with_is_refused(gateway: GatewayProcess, counting: Bundle) -> None:
    async with (
        attached_replica(gateway, "counting", {1: counting}),
        attached_replica(gateway, "other", {1: counting}),
        PolicyClient("counting", address=gateway.address) as client,
        PolicyClient("other", address=gateway.address) as other,
    ):
        state = (await client.request(numbers(5)[0])).state
        forgeries = [state[:index] + bytes([state[index] ^ 1]) + state[index + 1 :] for index in range(len(state))]
        for forged in (*forgeries, state[:-1], state + b"\0", b"\0"):
            with pytest.raises(InvalidArgumentError, match="no gateway of this installation gave"):
                await client.request(numbers(5)[0], ActOptions(state=forged))
        with pytest.raises(InvalidArgumentError, match="no gateway of this installation gave"):
            await other.request(numbers(5)[0], ActOptions(state=state))


async def test_a_state_goes_on_at_every_gateway_with_the_same_key(tmp_path: Path, counting: Bundle) -> None:
    key = str(tmp_path / "key")
    with (
        gateway_process(tmp_path / "1", state_key_path=key) as first,
        gateway_process(tmp_path / "2", state_key_path=key) as second,
        gateway_process(tmp_path / "3") as stranger,
        replica_process("counting", counting, first, second, stranger),
    ):
        for each in (first, second, stranger):
            await until_replicas(each, "counting", 1)
        async with (
            PolicyClient("counting", address=first.address) as here,
            PolicyClient("counting", address=second.address) as there,
            PolicyClient("counting", address=stranger.address) as elsewhere,
        ):
            state = (await here.request(numbers(5)[0])).state
            assert (await there.request(numbers(6)[0], ActOptions(state=state))).action.tolist() == [11]
            with pytest.raises(InvalidArgumentError):
                await elsewhere.request(numbers(6)[0], ActOptions(state=state))


async def test_the_gateway_keeps_sessions(gateway: GatewayProcess, counting: Bundle) -> None:
    async with attached_replica(gateway, "counting", {1: counting}), policy_stub(gateway) as stub:
        assert await step(stub, ["a", "b"], [1, 2], [True, True]) == [1, 2]
        assert await step(stub, ["b", "a"], [10, 20]) == [12, 21]
        assert await step(stub, ["a", "b", "c"], [5, 5, 5], [True, False, True]) == [5, 17, 5]
        async with refused_with(grpc.StatusCode.FAILED_PRECONDITION, "expected session 'd'.*to be known"):
            await step(stub, ["a", "d"], [1, 1])
        async with refused_with(grpc.StatusCode.INVALID_ARGUMENT, "expected each session id once"):
            await step(stub, ["a", "a"], [1, 1])
        async with refused_with(grpc.StatusCode.INVALID_ARGUMENT, "expected 1 session ids, got 2"):
            await step(stub, ["a", "b"], [1])
        assert await step(stub, ["a"], [0]) == [5], "what was refused changed nothing"


async def test_killing_a_replica_loses_no_episode(gateway: GatewayProcess, counting: Bundle) -> None:
    async with policy_stub(gateway) as stub, PolicyClient("counting", address=gateway.address) as client:
        with replica_process("counting", counting, gateway) as victim:
            await until_replicas(gateway, "counting", 1)
            assert await step(stub, ["survivor"], [1], [True]) == [1]
            _, state = await client.predict(numbers(1)[0])
            with replica_process("counting", counting, gateway):
                await until_replicas(gateway, "counting", 2)
                victim.kill()
                await until_replicas(gateway, "counting", 1)
                assert await step(stub, ["survivor"], [1]) == [2]
                action, _ = await client.predict(numbers(1)[0], state)
                assert action.tolist() == [2]


async def test_sessions_are_bounded_and_forgotten_when_idle(tmp_path: Path, counting: Bundle) -> None:
    with gateway_process(tmp_path, max_sessions=3, session_idle_seconds=0.3) as gateway:
        async with attached_replica(gateway, "counting", {1: counting}), policy_stub(gateway) as stub:
            await step(stub, ["a", "b", "c"], [1, 1, 1], [True] * 3)
            async with refused_with(grpc.StatusCode.RESOURCE_EXHAUSTED, "expected room for 1 new sessions"):
                await step(stub, ["d"], [1], [True])
            # Where they are kept is full, but an episode of an old session may begin.
            assert await step(stub, ["a"], [7], [True]) == [7]
            async with asyncio.timeout(10):
                while True:
                    with contextlib.suppress(grpc.aio.AioRpcError):
                        await step(stub, ["d"], [1], [True])
                        break
                    await asyncio.sleep(0.05)
            async with refused_with(grpc.StatusCode.FAILED_PRECONDITION, "was idle for over 0.3 s"):
                await step(stub, ["b"], [1])


async def test_policies_without_memory_refuse_one(gateway: GatewayProcess, bundle: Bundle) -> None:
    request = policy_pb2.ActRequest(
        policy="linear", observation={"observation": tensors.encode(np.ones(4, np.float32))}, state=b"x"
    )
    async with (
        attached_replica(gateway, "linear", {1: bundle}),
        policy_stub(gateway) as stub,
        refused_with(grpc.StatusCode.INVALID_ARGUMENT, "no gateway of this installation gave"),
    ):
        await stub.Act(request, timeout=5)
