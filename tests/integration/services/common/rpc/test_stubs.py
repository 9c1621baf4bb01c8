"""The client for generated code: what stubs and their callers see is what `grpc.aio` would show them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc
import pytest

from services.common.rpc import Channel, StubChannel
from services.common.rpc.stubs import StubStream
from tests.integration.services.common.rpc.servers import COLLECT, ECHO, FAIL, SLEEP, STREAM, RunningServer

pytestmark = pytest.mark.integration

NOT_FOUND = b'{"code": "NOT_FOUND", "details": "n\\u00f6 %", "trailing": [["a", "b"]]}'
NOBODY = "127.0.0.1:1"


def as_it_is(message: bytes) -> bytes:
    return message


@asynccontextmanager
async def opened(target: str, method: str = STREAM) -> AsyncIterator[StubStream[bytes, bytes]]:
    async with StubChannel(Channel(target)) as channel:
        call: StubStream[bytes, bytes] = channel.stream_stream(method, as_it_is, as_it_is)()
        yield call


async def test_methods_of_one_answer(server: RunningServer) -> None:
    async with StubChannel(Channel(server.address)) as channel:
        echo = channel.unary_unary(ECHO, str.encode, bytes.decode, _registered_method=True)
        assert await asyncio.gather(*(echo(f"{number}", timeout=20) for number in range(99))) == [*map(str, range(99))]
        with pytest.raises(grpc.aio.AioRpcError, match="nö %") as caught:
            await channel.unary_unary(FAIL, bytes, bytes)(NOT_FOUND)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert ("a", "b") in tuple(caught.value.trailing_metadata())


async def test_streams(server: RunningServer) -> None:
    async with opened(server.address) as call:
        for number in range(50):
            await call.write(b"%d" % number)
            assert await call.read() == b"%d" % number
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert not call.cancel()
        with pytest.raises(asyncio.InvalidStateError):
            await call.write(b"late")
        assert not call.write_now(b"late")


async def test_what_is_written_now_leaves_before_the_loop_goes_on(server: RunningServer) -> None:
    async with opened(server.address) as call:
        assert not call.write_now(b"there is no connection yet")
        await call.write(b"first")
        assert await call.read() == b"first"
        assert call.write_now(b"second")
        assert await call.read() == b"second"


async def test_there_is_room_for_a_little_that_the_server_does_not_read(our_server: RunningServer) -> None:
    """Whoever writes waits, so that what nobody wants any more can be taken back."""
    written = 0

    async def write(call: StubStream[bytes, bytes]) -> None:
        nonlocal written
        while True:
            await call.write(bytes(64 * 1024))
            written += 1

    async with opened(our_server.address, COLLECT) as call:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(write(call), 1)
        assert 1 < written < 80
        assert not call.write_now(b"one more")
        assert call.cancel()


@pytest.mark.parametrize("ask", [lambda call: call.write(b""), lambda call: call.read()], ids=["write", "read"])
async def test_nobody_there(ask: Callable[[StubStream[bytes, bytes]], asyncio.Future[object]]) -> None:
    async with opened(NOBODY) as call:
        with pytest.raises(
            grpc.aio.AioRpcError, match=r"failed to connect to 127\.0\.0\.1:1: Connection refused"
        ) as caught:
            await ask(call)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert not call.cancel()


async def test_closing_cancels_what_is_in_flight(server: RunningServer) -> None:
    async with StubChannel(Channel(server.address)) as channel:
        asking = asyncio.ensure_future(channel.unary_unary(SLEEP, bytes, bytes)(b""))
        await asyncio.to_thread(server.seen.wait, "sleeping")
        await channel.close()
        with pytest.raises(grpc.aio.AioRpcError, match="the channel was closed") as caught:
            await asking
        assert caught.value.code() is grpc.StatusCode.CANCELLED


async def test_a_call_is_cancelled_before_there_is_a_connection(server: RunningServer) -> None:
    async with opened(server.address) as call:
        assert call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call.read()


async def test_what_it_does_not_have_says_so(server: RunningServer) -> None:
    async with StubChannel(Channel(server.address)) as channel:
        for kind in (channel.unary_stream, channel.stream_unary):
            with pytest.raises(NotImplementedError, match="/a/Method needs grpcio's channel"):
                kind("/a/Method", bytes, bytes)(b"")
        with pytest.raises(NotImplementedError, match="does not tell of its state"):
            channel.get_state()
