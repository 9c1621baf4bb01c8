"""What is true of the sync and the async client, and of the streams of both."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable

import grpc
import numpy as np
import pytest

from deploy.free_ports import free_address
from steersman import ConnectionOptions, aio, client
from steersman.client import RetryPolicy
from steersman.errors import (
    CancelledError,
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    MessageTooLargeError,
    ResourceExhaustedError,
    SteersmanError,
    UnreachableError,
)
from tests.integration.steersman.askers import KINDS, STREAMS, asker
from tests.scripted_gateway import ScriptedGateway, scripted
from tests.servers import silent_server

pytestmark = pytest.mark.integration

OBSERVATION = np.zeros(4, np.float32)
ONE_MEBIBYTE = 2**20
"""The least that is allowed for a limit makes for short tests."""

FITS = np.zeros((1000, 4), np.float32)
TOO_LARGE = np.zeros((100_000, 4), np.float32)
"""1.6 million bytes."""


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_refused_for_a_while_is_asked_again(kind: str) -> None:
    gateway = ScriptedGateway()
    gateway.refusals, gateway.pushback = 3, 5
    with scripted(gateway) as address:
        async with asker(kind, "scripted", address=address) as ask:
            assert (await ask.request(OBSERVATION)).version == 1
            assert gateway.acted == 4


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_refused_again_and_again_fails(kind: str) -> None:
    gateway = ScriptedGateway()
    gateway.refusals = 1000
    retry = RetryPolicy(max_attempts=3, initial_backoff=0.01)
    with scripted(gateway) as address:
        async with asker(kind, "scripted", connection=ConnectionOptions([address], retry=retry)) as ask:
            with pytest.raises(ResourceExhaustedError, match="the queue is full"):
                await ask.request(OBSERVATION)
            assert gateway.acted == 3


@pytest.mark.parametrize("kind", ["sync", "aio"])
@pytest.mark.parametrize("pushback", [-1, 60_000])
async def test_a_server_decides_whether_it_is_asked_again_within_the_deadline(kind: str, pushback: int) -> None:
    gateway = ScriptedGateway()
    gateway.refusals, gateway.pushback = 1000, pushback
    with scripted(gateway) as address:
        async with asker(kind, "scripted", address=address) as ask:
            with pytest.raises(ResourceExhaustedError):
                await ask.request(OBSERVATION)
            assert gateway.acted == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_a_description_is_asked_for_once_while_it_holds(kind: str) -> None:
    gateway = ScriptedGateway()
    with scripted(gateway) as address:
        async with asker(kind, "scripted", address=address) as ask:
            await asyncio.gather(*(ask.request(OBSERVATION) for _ in range(5)))
            asked = gateway.described
            for _ in range(5):
                await ask.request(OBSERVATION)
            assert gateway.described == asked
            await ask.describe()
            assert gateway.described == asked + 1


@pytest.mark.parametrize("kind", KINDS)
async def test_a_message_that_is_too_large_is_not_sent(kind: str) -> None:
    gateway = ScriptedGateway()
    with scripted(gateway) as address:
        options = ConnectionOptions([address], max_message_bytes=ONE_MEBIBYTE)
        async with asker(kind, "scripted", connection=options) as ask:
            await ask.request(FITS)
            with pytest.raises(
                MessageTooLargeError, match=r"at most 1048576 bytes \(STEERSMAN_MAX.* 16000\d\d bytes"
            ) as told:
                await ask.request(TOO_LARGE)
            assert isinstance(told.value, InvalidArgumentError)
            await ask.request(FITS)
            assert (gateway.acted, gateway.described) == (2, 1)
            assert gateway.streams <= 1


@pytest.mark.parametrize("kind", KINDS)
async def test_an_answer_that_would_be_too_large_is_not_asked_for(kind: str) -> None:
    gateway = ScriptedGateway()
    gateway.spec.state_tensors.add(name="state", dtype="DATA_TYPE_FLOAT32", shape=[1000])
    with scripted(gateway) as address:
        options = ConnectionOptions([address], max_message_bytes=ONE_MEBIBYTE)
        async with asker(kind, "scripted", connection=options) as ask:
            with pytest.raises(MessageTooLargeError, match="a request with an answer of 4008000 bytes"):
                await ask.request(FITS)
            assert gateway.acted == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("direction", ["request", "answer"])
async def test_what_is_too_large_for_the_server_alone_fails_alone_and_once(kind: str, direction: str) -> None:
    """The server's limit is lower than the client's, which does not know it; its answers are larger than it says."""
    gateway = ScriptedGateway()
    gateway.padding = 2 * ONE_MEBIBYTE
    gateway.answers.clear()
    with scripted(gateway, max_message_bytes=ONE_MEBIBYTE) as address:
        async with asker(kind, "scripted", address=address, timeout=30) as ask:
            neighbours = [asyncio.create_task(ask.request(OBSERVATION)) for _ in range(3)]
            await until(lambda: gateway.acted >= (1 if kind in STREAMS else 3))
            culprit = asyncio.create_task(ask.request(TOO_LARGE if direction == "request" else -np.ones(4, np.float32)))
            gateway.answers.set()
            with pytest.raises(MessageTooLargeError, match=f"the 1048576 bytes that the server takes.*{direction} of"):
                await culprit
            assert [answer.version for answer in await asyncio.gather(*neighbours)] == [1, 1, 1]
            assert (await ask.request(OBSERVATION)).version == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_an_answer_that_is_too_large_for_the_client_fails_alone(kind: str) -> None:
    gateway = ScriptedGateway()
    gateway.padding = 2 * ONE_MEBIBYTE
    with scripted(gateway) as address:
        options = ConnectionOptions([address], max_message_bytes=ONE_MEBIBYTE)
        async with asker(kind, "scripted", connection=options) as ask:
            with pytest.raises(MessageTooLargeError, match=r"the 1048576 bytes that this client takes.*answer of 2097"):
                await ask.request(-np.ones(4, np.float32))
            assert (await ask.request(OBSERVATION)).version == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_a_server_that_says_nothing_is_waited_for_no_longer_than_the_timeout(kind: str) -> None:
    with silent_server() as address:
        began = time.monotonic()
        async with asker(kind, "anything", address=address, timeout=0.5) as ask:
            words = f"expected an answer from the gateway at {address} within 0.5 s, got none"
            with pytest.raises(DeadlineExceededError, match=words):
                await ask.describe()
            with pytest.raises(DeadlineExceededError, match=words):
                await ask.request(OBSERVATION)
            with pytest.raises(DeadlineExceededError, match=r"within 0.1 s"):
                await ask.request(OBSERVATION, timeout=0.1)
        assert time.monotonic() - began < 10


@pytest.mark.parametrize("kind", KINDS)
async def test_a_server_that_says_nothing_is_named_once_it_is_given_up(kind: str) -> None:
    with silent_server() as address:
        options = ConnectionOptions([address], timeout=20, connect_timeout=0.2, retry=RetryPolicy(max_attempts=1))
        async with asker(kind, "anything", connection=options) as ask:
            with pytest.raises(UnreachableError, match=f"the gateway at {address}: something takes connections there"):
                await ask.request(OBSERVATION)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_gateway_that_does_not_answer_is_waited_for_no_longer_than_the_timeout(kind: str) -> None:
    gateway = ScriptedGateway()
    with scripted(gateway) as address:
        async with asker(kind, "scripted", address=address) as ask:
            await ask.request(OBSERVATION)
            gateway.answers.clear()
            with pytest.raises(DeadlineExceededError, match=r"within 0.2 s"):
                await ask.request(OBSERVATION, timeout=0.2)
            gateway.answers.set()
            assert (await ask.request(OBSERVATION)).version == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_nobody_at_the_address_is_told_with_the_address(kind: str) -> None:
    nobody = free_address()
    async with asker(kind, "anything", address=nobody) as ask:
        with pytest.raises(UnreachableError, match=f"cannot reach the gateway at {nobody}: nothing listens there"):
            await ask.request(OBSERVATION)


@pytest.mark.parametrize("kind", KINDS)
async def test_what_was_closed_says_so_at_once(kind: str) -> None:
    with scripted(ScriptedGateway()) as address:
        async with asker(kind, "scripted", address=address, timeout=60) as ask:
            await ask.request(OBSERVATION)
            await ask.close()
            await ask.close()
            with pytest.raises(
                FailedPreconditionError, match=r"expected an open (client|stream), got one that was closed"
            ):
                await ask.request(OBSERVATION)


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_in_flight_when_it_is_closed_fails_at_once(kind: str) -> None:
    gateway = ScriptedGateway()
    with scripted(gateway) as address:
        async with asker(kind, "scripted", address=address, timeout=60) as ask:
            await ask.request(OBSERVATION)
            gateway.answers.clear()
            in_flight = [asyncio.create_task(ask.request(OBSERVATION)) for _ in range(3)]
            await until(lambda: gateway.acted > 1)
            await ask.close()
            for request in in_flight:
                with pytest.raises(CancelledError):
                    await request


@pytest.mark.parametrize("kind", STREAMS)
async def test_what_waits_for_another_attempt_when_the_stream_is_closed_fails_at_once(kind: str) -> None:
    gateway = ScriptedGateway()
    gateway.refusals = 1
    retry = RetryPolicy(initial_backoff=1000, max_backoff=1000)
    with scripted(gateway) as address:
        options = ConnectionOptions([address], timeout=5000, retry=retry)
        async with asker(kind, "scripted", connection=options) as ask:
            waiting = asyncio.create_task(ask.request(OBSERVATION))
            await until(lambda: not gateway.refusals)
            await ask.close()
            with pytest.raises(CancelledError):
                await waiting


@pytest.mark.parametrize("kind", STREAMS)
async def test_a_stream_survives_requests_that_could_not_be_written_in_time(kind: str) -> None:
    """Nobody reads: what was to be written waits in gRPC, where giving it up ends the call."""
    gateway = ScriptedGateway()
    gateway.reads.clear()
    large = np.zeros((250_000, 4), np.float32)
    with scripted(gateway) as address:
        async with asker(kind, "scripted", address=address, timeout=30) as ask:
            await ask.describe()
            late = await asyncio.gather(*(ask.request(large, timeout=0.5) for _ in range(6)), return_exceptions=True)
            assert [type(error) for error in late] == [DeadlineExceededError] * 6
            gateway.reads.set()
            assert (await ask.request(OBSERVATION)).version == 1
            assert gateway.streams == 1
            # What nobody waited for any more was not sent, but for what gRPC had already taken.
            assert gateway.acted < 7


async def test_a_stream_survives_requests_that_are_cancelled() -> None:
    gateway = ScriptedGateway()
    gateway.reads.clear()
    large = np.zeros((250_000, 4), np.float32)
    with scripted(gateway) as address:
        async with aio.PolicyClient("scripted", address=address) as aio_client, aio_client.stream() as stream:
            await aio_client.describe()
            requests = [stream.submit(large) for _ in range(5)]
            await until(lambda: gateway.streams == 1)
            for request in requests:
                request.cancel()
            assert all(
                isinstance(end, asyncio.CancelledError)
                for end in await asyncio.gather(*requests, return_exceptions=True)
            )
            gateway.reads.set()
            assert (await stream.request(OBSERVATION)).version == 1
            assert gateway.streams == 1


async def test_requests_are_submitted_without_waiting() -> None:
    gateway = ScriptedGateway()
    with scripted(gateway) as address:
        async with aio.PolicyClient("scripted", address=address) as aio_client, aio_client.stream() as stream:
            submitted = [stream.submit(OBSERVATION) for _ in range(20)]
            assert [answer.version for answer in await asyncio.gather(*submitted)] == [1] * 20
            await stream.close()
            with pytest.raises(FailedPreconditionError):
                stream.submit(OBSERVATION)

        def sync() -> list[int]:
            with client.PolicyClient("scripted", address=address) as sync_client, sync_client.stream() as sync_stream:
                futures = [sync_stream.submit(OBSERVATION) for _ in range(20)]
                versions = [future.result().version for future in futures]
            with pytest.raises(FailedPreconditionError):
                sync_stream.submit(OBSERVATION)
            return versions

        assert await asyncio.to_thread(sync) == [1] * 20


async def test_streams_leave_nothing_behind(recwarn: pytest.WarningsRecorder) -> None:
    with scripted(ScriptedGateway()) as address:
        before = asyncio.all_tasks()
        async with aio.PolicyClient("scripted", address=address) as aio_client, aio_client.stream() as stream:
            await stream.act(OBSERVATION)
        assert asyncio.all_tasks() == before
    gc.collect()
    assert not [warning for warning in recwarn if issubclass(warning.category, ResourceWarning)]


async def test_another_server_at_the_address_is_told() -> None:
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with aio.PolicyClient("anything", address=f"127.0.0.1:{port}") as aio_client:
            with pytest.raises(SteersmanError, match=r"expected the gateway at .*, got a server without"):
                await aio_client.describe()
    finally:
        await server.stop(0)


async def until(condition: Callable[[], bool]) -> None:
    """Waits until something is so."""
    async with asyncio.timeout(20):
        while True:
            if condition():
                return
            await asyncio.sleep(0.005)
