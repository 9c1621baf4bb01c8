"""The data plane over real gRPC: a gateway process, and replicas attached to it."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common import frames
from services.common.bundle import Bundle
from services.policy.runtime import PolicyRuntime
from steersman import PolicyClient as SyncPolicyClient
from steersman import tensors
from steersman.aio import PolicyClient
from steersman.errors import (
    DeadlineExceededError,
    InvalidArgumentError,
)
from steersman.v1 import common_pb2, policy_pb2, replica_pb2
from tests.gateways import (
    GatewayProcess,
    attached_replica,
    connected_replica,
    gateway_process,
    policy_stub,
    silent_replica,
)

pytestmark = pytest.mark.integration


def observations(size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(size, 4)).astype(np.float32)


def expected_actions(bundle: Bundle, batch: np.ndarray) -> np.ndarray:
    return PolicyRuntime(bundle).compute({"observation": batch})["action"]


def act_request(observation: np.ndarray, policy: str = "linear") -> policy_pb2.ActRequest:
    return policy_pb2.ActRequest(policy=policy, observation={"observation": tensors.encode(observation)})


async def test_every_caller_gets_its_own_actions(gateway: GatewayProcess, bundle: Bundle) -> None:
    batch = observations(400)
    expected = expected_actions(bundle, batch)
    async with (
        attached_replica(gateway, "linear", {1: bundle}),
        PolicyClient("linear", address=gateway.address) as client,
    ):
        single = await asyncio.gather(*(client.act(row) for row in batch))
        np.testing.assert_array_equal(single, expected)
        np.testing.assert_array_equal(await client.act(batch), expected)
        answer = await client.request(batch[0])
        assert answer.version == 1
        assert answer.action == expected[0]
        assert isinstance(answer.action, np.int64)
        assert answer.compute_microseconds > 0
        action, state = await client.predict(batch[:3])
        np.testing.assert_array_equal(action, expected[:3])
        assert state is None


async def test_the_sync_client_says_the_same(gateway: GatewayProcess, bundle: Bundle) -> None:
    batch = observations(5)

    def ask() -> np.ndarray:
        with SyncPolicyClient("linear", address=gateway.address) as client:
            assert client.describe().spec == PolicyRuntime(bundle).spec
            np.testing.assert_array_equal(client.predict(batch)[0], client.act(batch))
            assert client.request(batch[0]).version == 1
            actions: np.ndarray = client.act(batch)
            return actions

    async with attached_replica(gateway, "linear", {1: bundle}):
        np.testing.assert_array_equal(await asyncio.to_thread(ask), expected_actions(bundle, batch))


async def test_a_large_request_is_split_over_batches(gateway: GatewayProcess, bundle: Bundle) -> None:
    batch = observations(10_000)
    async with (
        attached_replica(gateway, "linear", {1: bundle}, max_batch_size=64),
        PolicyClient("linear", address=gateway.address) as client,
    ):
        np.testing.assert_array_equal(await client.act(batch), expected_actions(bundle, batch))


async def test_a_stream_answers_each_request_by_its_id(gateway: GatewayProcess, bundle: Bundle) -> None:
    batch = observations(500)
    async with attached_replica(gateway, "linear", {1: bundle}), policy_stub(gateway) as stub:
        call = stub.ActStream()

        async def send() -> None:
            for index, row in enumerate(batch):
                await call.write(policy_pb2.ActStreamRequest(id=index, request=act_request(row)))
            await call.write(policy_pb2.ActStreamRequest(id=1000, request=act_request(row, "nobody")))
            await call.write(policy_pb2.ActStreamRequest(id=1001, request=act_request(row[:2])))
            await call.done_writing()

        sending = asyncio.create_task(send())
        answers = {message.id: message async for message in call}
        await sending
        assert await call.code() == grpc.StatusCode.OK
    assert answers.pop(1000).error.code == grpc.StatusCode.NOT_FOUND.value[0]
    assert answers.pop(1001).error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    actions = [tensors.decode(answers[index].response.action["action"]) for index in range(500)]
    np.testing.assert_array_equal(actions, expected_actions(bundle, batch))


async def test_an_id_in_flight_may_not_be_used_again(gateway: GatewayProcess, bundle: Bundle) -> None:
    async with silent_replica(gateway, "twice", bundle), policy_stub(gateway) as stub:
        call = stub.ActStream()
        for _ in range(2):
            await call.write(policy_pb2.ActStreamRequest(id=5, request=act_request(observations(1)[0], "twice")))
        refused = await call.read()
        assert isinstance(refused, policy_pb2.ActStreamResponse)
        assert refused.id == 5
        assert "not in flight" in refused.error.message
        call.cancel()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"policy": "nobody"}, "NOT_FOUND: expected one of the deployed policies.*'nobody'"),
        ({"policy": "linear:9"}, "NOT_FOUND: expected one of the served versions.*got 9"),
        ({"policy": "linear:x"}, "INVALID_ARGUMENT: expected an address like.*'linear:x'"),
        ({"observation": {}}, r"INVALID_ARGUMENT: expected observation tensors named \['observation'\], got \[\]"),
        (
            {"observation": {"position": common_pb2.Tensor()}},
            r"INVALID_ARGUMENT: expected observation tensors named \['observation'\], got \['position'\]",
        ),
        (
            {"observation": {"observation": tensors.encode(np.zeros(4))}},
            r"INVALID_ARGUMENT: expected tensor 'observation' as float32\[4\], got float64\[4\]",
        ),
        (
            {"observation": {"observation": tensors.encode(np.zeros(3, np.float32))}},
            r"INVALID_ARGUMENT: expected tensor 'observation' of shape \[4\].*got shape \[3\]",
        ),
        (
            {"observation": {"observation": tensors.encode(np.zeros((0, 4), np.float32))}},
            r"INVALID_ARGUMENT: expected tensor 'observation' of shape \[4\].*got shape \[0, 4\]",
        ),
        (
            {"observation": {"observation": common_pb2.Tensor(dtype=11, shape=[2**40, 4], data=b"1")}},  # type: ignore[arg-type]
            "INVALID_ARGUMENT: expected 17592186044416 bytes.*got 1",
        ),
        (
            {"observation": {"observation": common_pb2.Tensor(dtype=11, shape=[-1, 4], data=b"")}},  # type: ignore[arg-type]
            "INVALID_ARGUMENT: expected tensor",
        ),
        (
            {"observation": {"observation": common_pb2.Tensor(dtype=11, shape=[4], data=b"12345")}},  # type: ignore[arg-type]
            "INVALID_ARGUMENT: expected 16 bytes.*got 5",
        ),
    ],
)
async def test_bad_input_gets_a_status_and_a_sentence(
    gateway: GatewayProcess, bundle: Bundle, change: dict[str, object], words: str
) -> None:
    good = observations(1)[0]
    fields: dict[str, object] = {"policy": "linear", "observation": {"observation": tensors.encode(good)}} | change
    async with attached_replica(gateway, "linear", {1: bundle}), policy_stub(gateway) as stub:
        neighbours = [stub.Act(act_request(good), timeout=10) for _ in range(8)]
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Act(policy_pb2.ActRequest(**fields), timeout=10)  # type: ignore[arg-type]
        for neighbour in neighbours:
            assert (await neighbour).version == 1
    assert refused.value.code().name == words.partition(":")[0]
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(f"{refused.value.code().name}: {refused.value.details()}")


async def test_a_lost_replica_loses_no_request(gateway: GatewayProcess, bundle: Bundle) -> None:
    batch = observations(3)
    # Some of the requests may come while no replica is attached at all, so that the client has to send them again.
    async with PolicyClient("lossy", address=gateway.address) as client:
        async with silent_replica(gateway, "lossy", bundle) as silent:
            calls = [asyncio.create_task(client.act(row)) for row in batch]
            await silent.next_batch()
            silent.hang_up()
        async with attached_replica(gateway, "lossy", {1: bundle}):
            actions = await asyncio.gather(*calls)
    np.testing.assert_array_equal(actions, expected_actions(bundle, batch))


async def test_a_deadline_ends_the_wait_and_the_request(gateway: GatewayProcess, bundle: Bundle) -> None:
    first, second, third = observations(3)
    async with PolicyClient("slow", address=gateway.address) as client:
        async with silent_replica(gateway, "slow", bundle) as silent:
            held = asyncio.create_task(client.act(first))
            await silent.next_batch()
            with pytest.raises(DeadlineExceededError):
                await client.act(second, timeout=0.2)
            silent.hang_up()
            held.cancel()
        async with attached_replica(gateway, "slow", {1: bundle}):
            assert await client.act(third) == expected_actions(bundle, third[np.newaxis])[0]


async def test_a_policy_without_replicas_is_unavailable(gateway: GatewayProcess, bundle: Bundle) -> None:
    async with attached_replica(gateway, "gone", {1: bundle}), PolicyClient("gone", address=gateway.address) as client:
        await client.describe()
    async with policy_stub(gateway) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Act(act_request(observations(1)[0], "gone"), timeout=5)
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_versions_change_under_load_without_a_failure(
    gateway: GatewayProcess, bundle: Bundle, other_bundle: Bundle
) -> None:
    batch = observations(50)
    expected = {1: expected_actions(bundle, batch), 2: expected_actions(other_bundle, batch)}
    stop = asyncio.Event()
    seen: set[int] = set()

    async def load(client: PolicyClient) -> None:
        while not stop.is_set():
            for index, row in enumerate(batch):
                answer = await client.request(row)
                assert answer.action == expected[answer.version][index]
                seen.add(answer.version)

    async with (
        attached_replica(gateway, "hot", {1: bundle}) as replica,
        PolicyClient("hot", address=gateway.address) as client,
    ):
        callers = [asyncio.create_task(load(client)) for _ in range(8)]
        for version, loaded in ((2, other_bundle), (1, bundle), (2, other_bundle)):
            await replica.load({version: lambda loaded=loaded: PolicyRuntime(loaded)})  # type: ignore[misc]
            assert (await client.request(batch[0])).version in (1, 2)
        stop.set()
        await asyncio.gather(*callers)
    assert seen == {1, 2}


async def test_a_version_that_fails_to_load_leaves_everything_as_it_was(
    gateway: GatewayProcess, bundle: Bundle
) -> None:
    def broken() -> PolicyRuntime:
        raise InvalidArgumentError("broken")

    async with (
        attached_replica(gateway, "firm", {1: bundle}) as replica,
        PolicyClient("firm", address=gateway.address) as client,
    ):
        with pytest.raises(InvalidArgumentError, match="broken"):
            await replica.load({2: broken})
        assert (await client.request(observations(1)[0])).version == 1


async def test_a_leaving_replica_finishes_what_it_holds(gateway: GatewayProcess, bundle: Bundle) -> None:
    batch = observations(2000)
    async with policy_stub(gateway) as stub, attached_replica(gateway, "leaving", {1: bundle}, max_batch_size=4):
        call = stub.Act(act_request(batch, "leaving"), timeout=20)
        async with attached_replica(gateway, "leaving", {1: bundle}, max_batch_size=4) as replica:
            await replica.leave()
        actions = tensors.decode((await call).action["action"])
    np.testing.assert_array_equal(actions, expected_actions(bundle, batch))


async def test_policies_are_described(gateway: GatewayProcess, bundle: Bundle, other_bundle: Bundle) -> None:
    async with attached_replica(gateway, "two", {1: bundle, 2: other_bundle}), policy_stub(gateway) as stub:
        policy = (await stub.GetPolicy(policy_pb2.GetPolicyRequest(policy="two"))).policy
        assert policy.default_version == 2
        assert [version.version for version in policy.versions] == [1, 2]
        assert policy.versions[0].spec == PolicyRuntime(bundle).spec
        pinned = (await stub.GetPolicy(policy_pb2.GetPolicyRequest(policy="two:1"))).policy
        assert [version.version for version in pinned.versions] == [1]
        listed = (await stub.ListPolicies(policy_pb2.ListPoliciesRequest())).policies
        assert "two" in [entry.name for entry in listed]
        async with PolicyClient("two:1", address=gateway.address) as client:
            assert (await client.request(observations(1)[0])).version == 1


@pytest.mark.parametrize(
    "first",
    [
        replica_pb2.AttachRequest(leave=replica_pb2.Leave()),
        replica_pb2.AttachRequest(announce=replica_pb2.Announce(policy="odd")),
        replica_pb2.AttachRequest(
            announce=replica_pb2.Announce(
                policy="odd",
                max_batch_size=1,
                max_batches_in_flight=1,
                versions=[replica_pb2.LoadedVersion(version=1)],
            )
        ),
    ],
)
async def test_replicas_that_announce_nonsense_are_refused(
    gateway: GatewayProcess, first: replica_pb2.AttachRequest
) -> None:
    async with connected_replica(gateway) as replica, asyncio.timeout(30):
        replica.tell(first)
        await replica.is_closed.wait()


@pytest.mark.parametrize("first", [frames.greeting(frames.VERSION + 1), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"])
async def test_replicas_of_another_version_are_refused(gateway: GatewayProcess, first: bytes) -> None:
    host, _, port = gateway.replica_address.rpartition(":")
    async with asyncio.timeout(30):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(first)
        assert await reader.readexactly(len(frames.greeting())) == frames.greeting()
        # A gateway that hangs up before it has read everything resets the connection.
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()


async def test_a_gateway_told_to_stop_says_so_and_goes(tmp_path: Path, bundle: Bundle) -> None:
    with gateway_process(tmp_path) as gateway:
        async with attached_replica(gateway, "linear", {1: bundle}):
            async with grpc.aio.insecure_channel(gateway.address) as channel:
                health: Any = health_pb2_grpc.HealthStub(channel)
                request = health_pb2.HealthCheckRequest(service="steersman.v1.PolicyService")
                assert (await health.Check(request)).status == health_pb2.HealthCheckResponse.SERVING
            gateway.process.terminate()
            assert await asyncio.to_thread(gateway.process.wait, 20) == 0
