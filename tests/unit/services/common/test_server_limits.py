"""How many calls, streams and connections a server takes, and for how long, by a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import hpack
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from steersman.settings import Settings
from steersman.v1 import deployment_pb2, deployment_pb2_grpc, policy_pb2, policy_pb2_grpc
from tests import raw_http2
from tests.unit.services.common.servicer import Policies, refusal, served

pytestmark = pytest.mark.usefixtures("grpc_server")

SECONDS = 20
WAIT = policy_pb2.ActRequest(policy="wait")
PLAIN = policy_pb2.ActRequest(policy="plain")


def connected(address: str, **options: int) -> grpc.aio.Channel:
    """Opens a connection of its own."""
    chosen = {"grpc.use_local_subchannel_pool": 1, "grpc.enable_retries": 0} | {
        f"grpc.{name}": value for name, value in options.items()
    }
    return grpc.aio.insecure_channel(address, options=list(chosen.items()))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while True:
            if condition():
                return
            await asyncio.sleep(0.005)


def retries_of(code: str, backoff: str = "0.05s") -> str:
    """Configures gRPC's own retries, as the SDK does."""
    return (
        '{"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 5, "backoffMultiplier": 1, '
        f'"initialBackoff": "{backoff}", "maxBackoff": "{backoff}", "retryableStatusCodes": ["{code}"]}}}}]}}'
    )


async def test_calls_over_the_limit_are_refused_and_told_when_to_try_again() -> None:
    policies = Policies()
    settings = Settings(max_calls=2, retry_pushback_milliseconds=30)
    async with served(policies, settings) as address, connected(address) as channel:
        stub = policy_pb2_grpc.PolicyServiceStub(channel)
        admin = deployment_pb2_grpc.DeploymentServiceStub(channel)
        first, second = stub.Act(WAIT, timeout=SECONDS), stub.Act(WAIT, timeout=SECONDS)
        await until(lambda: policies.waiting == 2)
        # All services of a server share the limit.
        for call in (stub.Act(PLAIN, timeout=SECONDS), admin.Undeploy(deployment_pb2.UndeployRequest())):
            error = await refusal(call)
            assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "expected at most 2 calls at a time (STEERSMAN_MAX_CALLS), got one more" in str(error.details())
            assert dict(error.trailing_metadata() or ())["grpc-retry-pushback-ms"] == "30"
        # Whoever asks for the health is told.
        health: Any = health_pb2_grpc.HealthStub(channel)
        assert (await health.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING
        # A call that is given up makes room, and so does one that fails.
        first.cancel()
        await until(lambda: policies.waiting == 1)
        for _ in range(5):
            await refusal(stub.Act(policy_pb2.ActRequest(policy="fault"), timeout=SECONDS))
            await stub.Act(PLAIN, timeout=SECONDS)
        policies.go_on.set()
        await second


async def test_clients_repeat_a_refused_call_until_there_is_room() -> None:
    policies = Policies()
    async with served(policies, Settings(max_calls=1, retry_pushback_milliseconds=1)) as address:
        options = [("grpc.service_config", retries_of("RESOURCE_EXHAUSTED", backoff="5s"))]
        async with connected(address) as one, grpc.aio.insecure_channel(address, options=options) as other:
            first = policy_pb2_grpc.PolicyServiceStub(one).Act(WAIT, timeout=SECONDS)
            await until(lambda: policies.waiting == 1)
            second = policy_pb2_grpc.PolicyServiceStub(other).Act(PLAIN, timeout=SECONDS)
            policies.go_on.set()
            assert (await second).version == (await first).version == 7


async def test_streams_over_the_limit_are_refused_and_calls_are_not() -> None:
    async with served(Policies(), Settings(max_streams=2)) as address, connected(address) as channel:
        stub = policy_pb2_grpc.PolicyServiceStub(channel)
        admin = deployment_pb2_grpc.DeploymentServiceStub(channel)
        stream = stub.ActStream()
        await stream.write(policy_pb2.ActStreamRequest(id=1))
        await stream.read()
        watch = admin.WatchDeployments(deployment_pb2.WatchDeploymentsRequest())
        await watch.read()
        for call in (stub.ActStream(), admin.WatchDeployments(deployment_pb2.WatchDeploymentsRequest())):
            error = await refusal(call.read())
            assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "expected at most 2 streams at a time (STEERSMAN_MAX_STREAMS)" in str(error.details())
        assert (await stub.Act(PLAIN, timeout=SECONDS)).version == 7
        await stream.done_writing()
        assert await stream.code() == grpc.StatusCode.OK
        again = stub.ActStream()
        await again.write(policy_pb2.ActStreamRequest(id=2))
        assert isinstance(answer := await again.read(), policy_pb2.ActStreamResponse)
        assert answer.id == 2
        again.cancel()
        watch.cancel()


async def test_calls_over_the_limit_of_a_connection_wait_in_the_client() -> None:
    policies = Policies()
    # A server may still count a call that the client takes for ended, and refuse the next: clients make it again.
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.service_config", retries_of("UNAVAILABLE"))]
    async with (
        served(policies, Settings(max_calls_per_connection=2)) as address,
        grpc.aio.insecure_channel(address, options=options) as channel,
        connected(address) as neighbour,
    ):
        stub = policy_pb2_grpc.PolicyServiceStub(channel)
        calls = [stub.Act(WAIT, timeout=SECONDS) for _ in range(5)]
        await until(lambda: policies.waiting == 2)
        for _ in range(5):
            await policy_pb2_grpc.PolicyServiceStub(neighbour).Act(PLAIN, timeout=SECONDS)
        assert policies.waiting == 2
        policies.go_on.set()
        assert [(await call).version for call in calls] == [7] * 5


async def test_metadata_over_the_limit_is_refused_and_the_connection_goes_on() -> None:
    async with served(Policies(), Settings(max_metadata_bytes=2048)) as address, connected(address) as channel:
        stub = policy_pb2_grpc.PolicyServiceStub(channel)
        for _ in range(5):
            error = await refusal(stub.Act(PLAIN, metadata=(("x-long", "x" * 3000),), timeout=SECONDS))
            assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert (await stub.Act(PLAIN, metadata=(("x-long", "x" * 1000),), timeout=SECONDS)).version == 7


async def test_an_idle_connection_is_closed_and_opened_again_when_there_is_a_call() -> None:
    async with served(Policies(), Settings(max_connection_idle_seconds=1)) as address, connected(address) as channel:
        stub = policy_pb2_grpc.PolicyServiceStub(channel)
        await stub.Act(PLAIN, timeout=SECONDS)
        assert channel.get_state() == grpc.ChannelConnectivity.READY
        async with asyncio.timeout(SECONDS):
            await channel.wait_for_state_change(grpc.ChannelConnectivity.READY)
        assert (await stub.Act(PLAIN, timeout=SECONDS)).version == 7


async def test_a_client_that_does_not_answer_pings_is_cut_off() -> None:
    settings = Settings(keepalive_seconds=1, keepalive_timeout_seconds=1)
    async with served(Policies(), settings) as address, connected(address) as neighbour:

        def listen() -> list[int]:
            with raw_http2.connect(address) as silent:
                silent.sendall(raw_http2.frame(raw_http2.SETTINGS, raw_http2.ACK, 0))
                return [kind for kind, _, _, _ in raw_http2.frames(silent)]

        kinds = await asyncio.to_thread(listen)
        assert raw_http2.PING in kinds
        assert (await policy_pb2_grpc.PolicyServiceStub(neighbour).Act(PLAIN, timeout=SECONDS)).version == 7


@pytest.mark.parametrize(
    "path", [b"/steersman.v1.PolicyService/\xff\xfe", b"/\xc3(", b"", b"no path", b"/a\x00b", b"/a\nb"]
)
async def test_a_path_of_any_bytes_harms_nobody(path: bytes) -> None:
    policies = Policies()
    async with served(policies) as address, connected(address) as neighbour:
        stub = policy_pb2_grpc.PolicyServiceStub(neighbour)
        in_flight = stub.Act(WAIT, timeout=SECONDS)
        await until(lambda: policies.waiting == 1)

        def send() -> dict[bytes, bytes] | None:
            """Gives the header fields of the answer; None if the call was reset, since HTTP/2 knows no such path."""
            decoder = hpack.Decoder()
            with raw_http2.connect(address) as hostile:
                hostile.sendall(raw_http2.call(path))
                for kind, flags, stream, payload in raw_http2.frames(hostile):
                    if kind == raw_http2.HEADERS:
                        fields = dict(decoder.decode(payload, raw=True))
                        if flags & raw_http2.END_STREAM:
                            return fields
                    if stream == 1 and kind == raw_http2.RST_STREAM:
                        break
            return None

        answer = await asyncio.to_thread(send)
        assert answer is None or answer[b"grpc-status"] == b"%d" % grpc.StatusCode.UNIMPLEMENTED.value[0]
        policies.go_on.set()
        assert (await in_flight).version == 7
        assert (await stub.Act(PLAIN, timeout=SECONDS)).version == 7
