"""Independent clients against both servers: grpc.aio, grpclib (pure Python), and the package's own."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import grpclib
import pytest
from grpclib.client import Channel as GrpclibChannel
from grpclib.client import StreamStreamMethod, UnaryStreamMethod, UnaryUnaryMethod
from grpclib.encoding.base import CodecBase

from services.common.rpc import CallError, Limits, Status
from services.common.rpc.client import Channel
from services.common.rpc.wire import decode_metadata
from tests.integration.services.common.rpc.certificates import make_certificate, server_names
from tests.integration.services.common.rpc.servers import (
    COLLECT,
    ECHO,
    FAIL,
    METADATA,
    REPEAT,
    SLEEP,
    STREAM,
    Kind,
    Options,
    RunningServer,
    running,
)

pytestmark = pytest.mark.integration

LARGE = bytes(range(256)) * 10_000
NOT_FOUND = b'{"code": "NOT_FOUND", "details": "n\\u00f6 %", "trailing": [["a", "b"]]}'


class BytesCodec(CodecBase):
    """Messages are bytes."""

    __content_subtype__ = "proto"

    def encode(self, message: Any, message_type: Any) -> bytes:  # noqa: ANN401 - as grpclib has it
        return bytes(message)

    def decode(self, data: bytes, message_type: Any) -> bytes:  # noqa: ANN401
        return data


async def numbered(count: int) -> AsyncIterator[bytes]:
    """Some requests."""
    for number in range(count):
        yield b"%d" % number


async def test_grpc_aio(server: RunningServer) -> None:
    options = [("grpc.max_receive_message_length", -1)]
    async with grpc.aio.insecure_channel(server.address, options=options) as channel:
        echo: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(ECHO)
        assert await echo(LARGE, timeout=20) == LARGE
        answers = await asyncio.gather(*(echo(b"%d" % number, timeout=20) for number in range(200)))
        assert answers == [b"%d" % number for number in range(200)]
        stream: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(STREAM)
        assert [answer async for answer in stream(numbered(300), timeout=20)] == [b"%d" % n for n in range(300)]
        fail: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(FAIL)
        with pytest.raises(grpc.aio.AioRpcError, match="nö %"):
            await fail(NOT_FOUND, timeout=20)
        sleep: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(SLEEP)
        call = sleep(b"", timeout=20)
        await asyncio.to_thread(server.seen.wait, "sleeping")
        call.cancel()
        await asyncio.to_thread(server.seen.wait, "cancelled")


async def test_grpclib(server: RunningServer) -> None:
    async with GrpclibChannel("127.0.0.1", server.port, codec=BytesCodec()) as channel:
        echo: Any = UnaryUnaryMethod(channel, ECHO, bytes, bytes)
        assert await echo(LARGE, timeout=20) == LARGE
        answers = await asyncio.gather(*(echo(b"%d" % number, timeout=20) for number in range(90)))
        assert answers == [b"%d" % number for number in range(90)]
        stream: Any = StreamStreamMethod(channel, STREAM, bytes, bytes)
        assert await stream([b"a", b"b", LARGE], timeout=20) == [b"a", b"b", LARGE]
        metadata: Any = UnaryStreamMethod(channel, METADATA, bytes, bytes)
        async with metadata.open(metadata={"initial-bin": b"\x00\xff", "trailing": "x"}, timeout=20) as call:
            await call.send_message(b"m", end=True)
            assert await call.recv_message() == b"m"
            assert await call.recv_message() is None
            await call.recv_trailing_metadata()
            assert call.initial_metadata["initial-bin"] == b"\x00\xff"
            assert call.trailing_metadata["trailing"] == "x"
        fail: Any = UnaryUnaryMethod(channel, FAIL, bytes, bytes)
        with pytest.raises(grpclib.GRPCError, match="nö %"):
            await fail(NOT_FOUND, timeout=20)
        sleep: Any = UnaryUnaryMethod(channel, SLEEP, bytes, bytes)
        with pytest.raises(asyncio.TimeoutError):
            await sleep(b"", timeout=0.2)
        await asyncio.to_thread(server.seen.wait, "cancelled")


async def test_our_client(server: RunningServer) -> None:
    async with Channel(server.address) as channel:
        assert await channel.unary(ECHO, LARGE, timeout=20) == LARGE
        answers = await asyncio.gather(*(channel.unary(ECHO, b"%d" % number, timeout=20) for number in range(500)))
        assert answers == [b"%d" % number for number in range(500)]
        with pytest.raises(CallError) as caught:
            await channel.unary(FAIL, NOT_FOUND, timeout=20)
        assert (caught.value.status, caught.value.message) == (Status.NOT_FOUND, "nö %")
        assert ("a", "b") in caught.value.trailing
        with pytest.raises(CallError) as caught:
            await channel.unary("/no.Service/Method", b"", timeout=20)
        assert caught.value.status is Status.UNIMPLEMENTED


async def test_our_client_streams(server: RunningServer) -> None:
    async with Channel(server.address) as channel:
        stream = await channel.stream(STREAM, timeout=60)
        for number in range(1000):
            stream.send(b"%d" % number * 100)
        stream.half_close()
        for number in range(1000):
            assert await stream.read() == b"%d" % number * 100
        assert await stream.read() is None

        server.seen.may_read.set()
        collect = await channel.stream(COLLECT, timeout=60)
        collect.send(LARGE)
        collect.send(LARGE, last=True)
        assert await collect.read() == b"2 5120000"

        metadata = await channel.stream(METADATA, metadata=[("initial", "x"), ("trailing-bin", b"\xff")], timeout=60)
        metadata.send(b"m", last=True)
        assert await metadata.read() == b"m"
        assert await metadata.read() is None
        assert ("initial", "x") in decode_metadata(metadata.initial)
        assert ("trailing-bin", b"\xff") in decode_metadata(metadata.trailing)


async def test_our_client_cancels_and_gives_up(server: RunningServer) -> None:
    async with Channel(server.address) as channel:
        with pytest.raises(CallError) as caught:
            await channel.unary(SLEEP, b"", timeout=0.2)
        assert caught.value.status is Status.DEADLINE_EXCEEDED
        await asyncio.to_thread(server.seen.wait, "cancelled", 1)

        task = asyncio.create_task(channel.unary(SLEEP, b"", timeout=20))
        await asyncio.to_thread(server.seen.wait, "sleeping", 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(server.seen.wait, "cancelled", 2)

        stream = await channel.stream(STREAM)
        stream.send(b"x")
        assert await stream.read() == b"x"
        stream.cancel()
        with pytest.raises(CallError) as caught:
            await stream.read()
        assert caught.value.status is Status.CANCELLED
        assert await channel.unary(ECHO, b"next", timeout=20) == b"next"


async def test_our_client_holds_a_server_back_that_it_does_not_read(server: RunningServer) -> None:
    async with Channel(server.address) as channel:
        stream = await channel.stream(REPEAT, timeout=60)
        stream.send(b"20000 5000", last=True)
        assert await stream.read() is not None
        before = -1
        while server.seen.collected != before:
            before = server.seen.collected
            await asyncio.sleep(0.3)
        assert before < 10_000
        count = 1
        while await stream.read() is not None:
            count += 1
        assert count == 20_000


async def test_our_client_connects_again(kind: Kind) -> None:
    with running(kind) as first:
        channel = Channel(first.address)
        assert await channel.unary(ECHO, b"x", timeout=20) == b"x"
        address = first.address
    with pytest.raises(CallError) as caught:
        await channel.unary(ECHO, b"x", timeout=20)
    assert caught.value.status is Status.UNAVAILABLE
    with running(kind, Options(address=address)):
        assert await channel.unary(ECHO, b"x", timeout=20) == b"x"
    await channel.close()


async def test_our_client_moves_on_when_a_connection_gets_old(kind: Kind) -> None:
    options = Options(limits=Limits(max_age_seconds=0.3, max_age_grace_seconds=20))
    with running(kind, options) as server:
        async with Channel(server.address) as channel:
            peers: set[bytes] = set()
            ends = asyncio.get_running_loop().time() + 20
            while len(peers) < 3 and asyncio.get_running_loop().time() < ends:
                found = await channel.unary("/test.Test/Inspect", b"", timeout=20)
                peers.add(found.partition(b'"peer": ')[2][:30])
            assert len(peers) == 3


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[tuple[RunningServer, Path]]:
    certificate = make_certificate(tmp_path, "server", *server_names())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    with running("servicer", Options(tls=context)) as server:
        yield server, certificate.certificate


async def test_tls_of_our_client_and_of_grpclib(tls_server: tuple[RunningServer, Path]) -> None:
    server, roots = tls_server
    async with Channel(f"localhost:{server.port}", tls=ssl.create_default_context(cafile=roots)) as channel:
        assert await channel.unary(ECHO, LARGE, timeout=20) == LARGE
    async with Channel(f"localhost:{server.port}", tls=ssl.create_default_context()) as stranger:
        with pytest.raises(CallError, match="certificate"):
            await stranger.unary(ECHO, b"", timeout=20)
    context = ssl.create_default_context(cafile=roots)
    context.set_alpn_protocols(["h2"])
    async with GrpclibChannel("localhost", server.port, ssl=context, codec=BytesCodec()) as pure:
        echo: Any = UnaryUnaryMethod(pure, ECHO, bytes, bytes)
        assert await echo(LARGE, timeout=20) == LARGE


async def test_our_client_over_a_unix_socket(our_kind: Kind, short_folder: Path) -> None:
    with running(our_kind, Options(address=f"unix:{short_folder}/client")) as server:
        async with Channel(server.address) as channel:
            assert await channel.unary(ECHO, LARGE, timeout=20) == LARGE
