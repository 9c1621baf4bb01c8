"""What servicers of grpc.aio may ask of their context, of grpcio's and of ours alike."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from tests.integration.services.common.rpc.calls import TIMEOUT, failure, stream_stream, unary, unary_stream
from tests.integration.services.common.rpc.servers import Kind, Options, running

pytestmark = pytest.mark.integration

Context = grpc.aio.ServicerContext[Any, Any]
Method = Callable[[Any, Context], Any]


@pytest.fixture(params=["grpcio", "servicer"])
def kind(request: pytest.FixtureRequest) -> Kind:
    kind: Kind = request.param
    return kind


@contextmanager
def serving(kind: Kind, **methods: grpc.RpcMethodHandler[Any, Any]) -> Iterator[grpc.Channel]:
    """A channel to a server that has such methods, as `/s.S/<name>`."""

    def register(server: grpc.aio.Server) -> None:
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("s.S", methods),))

    with running(kind, Options(register=register)) as server, grpc.insecure_channel(server.address) as channel:
        yield channel


def answering(method: Callable[[bytes, Context], Awaitable[bytes]]) -> grpc.RpcMethodHandler[Any, Any]:
    return grpc.unary_unary_rpc_method_handler(method)


def streaming(method: Method) -> grpc.RpcMethodHandler[Any, Any]:
    return grpc.stream_stream_rpc_method_handler(method)


def test_a_code_that_is_set_ends_the_call_in_place_of_its_answer(kind: Kind) -> None:
    async def method(_: bytes, context: Context) -> bytes:
        assert context.code() is None
        assert not context.details()
        context.set_code(grpc.StatusCode.DATA_LOSS)
        context.set_details("lost")
        context.set_trailing_metadata((("a", "b"),))
        assert context.code() is grpc.StatusCode.DATA_LOSS
        assert context.details() == "lost"
        assert tuple(context.trailing_metadata()) == (("a", "b"),)
        assert not context.done()
        return b"dropped"

    with serving(kind, M=answering(method)) as channel:
        error = failure(lambda: unary(channel, "/s.S/M")(b"", timeout=TIMEOUT))
    assert (error.code(), error.details()) == (grpc.StatusCode.DATA_LOSS, "lost")
    assert ("a", "b") in [(entry.key, entry.value) for entry in error.trailing_metadata()]


def test_trailing_metadata_go_with_a_good_end_too(kind: Kind) -> None:
    async def method(request: bytes, context: Context) -> bytes:
        context.set_trailing_metadata([("a", "b")])
        return request

    with serving(kind, M=answering(method)) as channel:
        response, call = unary(channel, "/s.S/M").with_call(b"x", timeout=TIMEOUT)
    assert response == b"x"
    assert ("a", "b") in [tuple(entry) for entry in call.trailing_metadata()]


def test_an_exception_ends_the_call_with_the_code_that_was_set(kind: Kind) -> None:
    async def method(_: bytes, context: Context) -> bytes:
        context.set_code(grpc.StatusCode.FAILED_PRECONDITION)
        context.set_trailing_metadata((("a", "b"),))
        raise ValueError("oh")

    with serving(kind, M=answering(method)) as channel:
        error = failure(lambda: unary(channel, "/s.S/M")(b"", timeout=TIMEOUT))
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert error.details() == "Unexpected <class 'ValueError'>: oh"
    assert ("a", "b") in [(entry.key, entry.value) for entry in error.trailing_metadata()]


def test_aborting_keeps_what_was_set_and_cannot_be_done_twice(kind: Kind) -> None:
    seen: list[object] = []

    async def method(_: bytes, context: Context) -> bytes:
        context.set_details("set before")
        context.set_trailing_metadata((("a", "b"),))
        try:
            await context.abort(grpc.StatusCode.ABORTED)
        except grpc.aio.AbortError:
            seen.append(context.done())
            try:
                await context.abort(grpc.StatusCode.INTERNAL)
            except grpc.aio.UsageError as error:
                seen.append(type(error))
            raise
        return b""

    with serving(kind, M=answering(method)) as channel:
        error = failure(lambda: unary(channel, "/s.S/M")(b"", timeout=TIMEOUT))
    assert (error.code(), error.details()) == (grpc.StatusCode.ABORTED, "set before")
    assert ("a", "b") in [(entry.key, entry.value) for entry in error.trailing_metadata()]
    assert seen == [True, grpc.aio.UsageError]


def test_initial_metadata_are_sent_once(kind: Kind) -> None:
    seen: list[type] = []

    async def method(request: bytes, context: Context) -> bytes:
        await context.send_initial_metadata((("a", "b"),))
        try:
            await context.send_initial_metadata((("c", "d"),))
        except grpc.aio.UsageError as error:
            seen.append(type(error))
        return request

    with serving(kind, M=answering(method)) as channel:
        _, call = unary(channel, "/s.S/M").with_call(b"x", timeout=TIMEOUT)
    assert ("a", "b") in [tuple(entry) for entry in call.initial_metadata()]
    assert seen == [grpc.aio.UsageError]


def test_initial_metadata_arrive_before_the_first_answer(kind: Kind) -> None:
    async def method(request: bytes, context: Context) -> AsyncIterator[bytes]:
        await context.send_initial_metadata((("a", "b"),))
        await asyncio.sleep(60)
        yield request

    with serving(kind, M=grpc.unary_stream_rpc_method_handler(method)) as channel:
        call: Any = unary_stream(channel, "/s.S/M")(b"x", timeout=TIMEOUT)
        assert ("a", "b") in [tuple(entry) for entry in call.initial_metadata()]
        call.cancel()


def test_streams_can_be_read_and_written_by_the_context(kind: Kind) -> None:
    async def method(_: AsyncIterator[bytes], context: Context) -> None:
        while (message := await context.read()) is not grpc.aio.EOF:
            await context.write(message)
            await context.write(message)
        assert await context.read() is grpc.aio.EOF
        await context.write(b"end")

    with serving(kind, M=streaming(method)) as channel:
        assert list(stream_stream(channel, "/s.S/M")(iter([b"a", b"b"]), timeout=TIMEOUT)) == [
            b"a",
            b"a",
            b"b",
            b"b",
            b"end",
        ]


def test_a_stream_that_returns_early_ends_well(kind: Kind) -> None:
    async def method(requests: AsyncIterator[bytes], _: Context) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request
            return

    def endless() -> Iterator[bytes]:
        while True:
            yield b"x"

    with serving(kind, M=streaming(method)) as channel:
        for _ in range(20):
            assert list(stream_stream(channel, "/s.S/M")(endless(), timeout=TIMEOUT)) == [b"x"]


def test_reads_and_writes_may_be_in_tasks_of_their_own_and_cancelled(kind: Kind) -> None:
    async def method(_: AsyncIterator[bytes], context: Context) -> None:
        async def read_all() -> None:
            while await context.read() is not grpc.aio.EOF:
                pass

        reader = asyncio.create_task(read_all())
        for number in range(100):
            await context.write(b"%d" % number)
        reader.cancel()

    def slow() -> Iterator[bytes]:
        for _ in range(3):
            yield b"x"

    with serving(kind, M=streaming(method)) as channel:
        answers = list(stream_stream(channel, "/s.S/M")(slow(), timeout=TIMEOUT))
    assert answers == [b"%d" % number for number in range(100)]


def test_done_callbacks_are_called_however_a_call_ends(kind: Kind) -> None:
    done: list[str] = []

    async def method(request: bytes, context: Context) -> bytes:
        context.add_done_callback(lambda _: done.append(request.decode()))  # type: ignore[arg-type]
        if request == b"abort":
            await context.abort(grpc.StatusCode.ABORTED)
        if request == b"raise":
            raise ValueError("oh")
        return request

    with serving(kind, M=answering(method)) as channel:
        call = unary(channel, "/s.S/M")
        for request in (b"abort", b"raise"):
            with pytest.raises(grpc.RpcError):
                call(request, timeout=TIMEOUT)
        call(b"return", timeout=TIMEOUT)
        while len(done) < 3:
            call(b"return", timeout=TIMEOUT)
    assert done[:3] == ["abort", "raise", "return"]


def test_a_servicer_that_goes_on_after_its_client_has_gone_harms_nobody(
    kind: Kind, caplog: pytest.LogCaptureFixture
) -> None:
    ended: list[str] = []

    async def method(request: bytes, context: Context) -> bytes:
        if request == b"x":
            return request
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("cancelled")
        try:
            await context.abort(grpc.StatusCode.ABORTED, "too late")
        finally:
            ended.append("aborted")
        return b""

    with serving(kind, M=answering(method)) as channel, caplog.at_level(logging.WARNING):
        call = unary(channel, "/s.S/M").future(b"wait", timeout=0.3)
        assert failure(call.result).code() is grpc.StatusCode.DEADLINE_EXCEEDED
        while "aborted" not in ended:
            assert unary(channel, "/s.S/M")(b"x", timeout=TIMEOUT) == b"x"
    assert ended == ["cancelled", "aborted"]
    if kind != "grpcio":
        assert not caplog.records


def test_metadata_of_a_servicer_that_cannot_be_sent_are_refused(kind: Kind) -> None:
    seen: list[type] = []

    async def method(request: bytes, context: Context) -> bytes:
        try:
            await context.send_initial_metadata((("Bad Key", "x"),))
        except Exception as error:  # noqa: BLE001 - each has its own
            seen.append(type(error))
        return request

    with serving(kind, M=answering(method)) as channel:
        call = unary(channel, "/s.S/M")
        try:
            assert call(b"x", timeout=TIMEOUT) == b"x"
        except grpc.RpcError:
            assert kind == "grpcio"
    assert seen


def test_messages_that_no_serializer_takes_end_the_call(kind: Kind) -> None:
    async def method(request: int, _: Context) -> object:
        return request + 1 if request < 1000 else "text"

    handler: grpc.RpcMethodHandler[Any, Any] = grpc.unary_unary_rpc_method_handler(
        method, request_deserializer=int, response_serializer=lambda answer: b"%d" % answer
    )
    with serving(kind, M=handler) as channel:
        call = unary(channel, "/s.S/M")
        assert call(b"41", timeout=TIMEOUT) == b"42"
        assert failure(lambda: call(b"1000", timeout=TIMEOUT)).code() is grpc.StatusCode.UNKNOWN
        code = failure(lambda: call(b"x", timeout=TIMEOUT)).code()
        # gRPC's own table of statuses says INTERNAL.
        assert code is (grpc.StatusCode.UNKNOWN if kind == "grpcio" else grpc.StatusCode.INTERNAL)
