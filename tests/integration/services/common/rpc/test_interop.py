"""gRPC's own interoperability cases (doc/interop-test-descriptions.md), by their names, but those that need a cloud."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from tests.integration.services.common.rpc.calls import TIMEOUT, failure
from tests.integration.services.common.rpc.frames import RawConnection, prefixed
from tests.integration.services.common.rpc.interop import INITIAL, TRAILING, messages, register, services
from tests.integration.services.common.rpc.servers import Kind, Options, RunningServer, running

pytestmark = pytest.mark.integration

SPECIAL = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"


@pytest.fixture(params=["grpcio", "servicer"])
def interop_server(request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    kind: Kind = request.param
    with running(kind, Options(register=register)) as server:
        yield server


@pytest.fixture
def channel(interop_server: RunningServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(interop_server.address) as channel:
        yield channel


@pytest.fixture
def stub(channel: grpc.Channel) -> Any:  # noqa: ANN401 - made at run time
    return services.TestServiceStub(channel)


def large_request(**more: object) -> Any:  # noqa: ANN401
    return messages.SimpleRequest(response_size=314_159, payload=messages.Payload(body=bytes(271_828)), **more)


def output_request(*sizes: int, payload: int = 0) -> Any:  # noqa: ANN401
    parameters = [messages.ResponseParameters(size=size) for size in sizes]
    return messages.StreamingOutputCallRequest(
        response_parameters=parameters, payload=messages.Payload(body=bytes(payload))
    )


class Requests:
    """Requests that are sent when one likes."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[object] = queue.SimpleQueue()

    def send(self, request: object) -> None:
        self._queue.put(request)

    def half_close(self) -> None:
        self._queue.put(None)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._queue.get, None)


def test_empty_unary(stub: Any) -> None:  # noqa: ANN401
    assert stub.EmptyCall(messages.Empty(), timeout=TIMEOUT) == messages.Empty()


def test_large_unary(stub: Any) -> None:  # noqa: ANN401
    assert stub.UnaryCall(large_request(), timeout=TIMEOUT).payload.body == bytes(314_159)


def test_client_compressed_unary(interop_server: RunningServer) -> None:
    """A servicer of grpc.aio cannot see whether a request was compressed, so the probe of the case is left out."""
    for compression in (grpc.Compression.Gzip, grpc.Compression.Deflate, grpc.Compression.NoCompression):
        with grpc.insecure_channel(interop_server.address, compression=compression) as channel:
            response = services.TestServiceStub(channel).UnaryCall(large_request(), timeout=TIMEOUT)
            assert len(response.payload.body) == 314_159


@pytest.mark.parametrize("compressed", [True, False])
def test_server_compressed_unary(interop_server: RunningServer, *, compressed: bool) -> None:
    flag = messages.BoolValue(value=compressed)
    request = messages.SimpleRequest(response_size=50_000, response_compressed=flag).SerializeToString()
    with RawConnection(interop_server.address) as connection:
        path = "/grpc.testing.TestService/UnaryCall"
        connection.call(1, path, prefixed(request), grpc_accept_encoding="identity,gzip")
        answer = connection.answer(1)
        assert answer.status == 0
        # grpc.aio 1.85 forgets `set_compression` where there is one answer.
        compressed = compressed and interop_server.kind != "grpcio"
        assert answer.data[0] == compressed
        assert (answer.fields.get("grpc-encoding") == "gzip") == compressed
        assert (len(answer.data) < 50_000) == compressed


def test_a_server_compresses_only_for_who_can_read_it(interop_server: RunningServer) -> None:
    request = messages.SimpleRequest(response_size=100, response_compressed=messages.BoolValue(value=True))
    with RawConnection(interop_server.address) as connection:
        connection.call(1, "/grpc.testing.TestService/UnaryCall", prefixed(request.SerializeToString()))
        answer = connection.answer(1)
        assert answer.status == 0
        assert answer.data[0] == 0


def test_client_streaming(stub: Any) -> None:  # noqa: ANN401
    sizes = (27_182, 8, 1_828, 45_904)
    requests = (messages.StreamingInputCallRequest(payload=messages.Payload(body=bytes(size))) for size in sizes)
    assert stub.StreamingInputCall(requests, timeout=TIMEOUT).aggregated_payload_size == 74_922


def test_server_streaming(stub: Any) -> None:  # noqa: ANN401
    sizes = [31_415, 9, 2_653, 58_979]
    responses = stub.StreamingOutputCall(output_request(*sizes), timeout=TIMEOUT)
    assert [len(response.payload.body) for response in responses] == sizes


def test_server_compressed_streaming(interop_server: RunningServer) -> None:
    request = output_request(31_415, 60_000)
    request.response_parameters[0].compressed.value = True
    with RawConnection(interop_server.address) as connection:
        path = "/grpc.testing.TestService/StreamingOutputCall"
        message = prefixed(request.SerializeToString())
        connection.call(1, path, message, grpc_accept_encoding="gzip,identity")
        answer = connection.answer(1)
        first = 5 + int.from_bytes(answer.data[1:5], "big")
        assert first < 31_415
        assert (answer.data[0], answer.data[first]) == (1, 0)


def test_ping_pong(stub: Any) -> None:  # noqa: ANN401
    requests = Requests()
    responses = stub.FullDuplexCall(iter(requests), timeout=TIMEOUT)
    for size, payload in ((31_415, 27_182), (9, 8), (2_653, 1_828), (58_979, 45_904)):
        requests.send(output_request(size, payload=payload))
        assert len(next(responses).payload.body) == size
    requests.half_close()
    assert list(responses) == []


def test_half_duplex(stub: Any) -> None:  # noqa: ANN401
    responses = stub.HalfDuplexCall(iter([output_request(10, 20), output_request(30)]), timeout=TIMEOUT)
    assert [len(response.payload.body) for response in responses] == [10, 20, 30]


def test_empty_stream(stub: Any) -> None:  # noqa: ANN401
    assert list(stub.FullDuplexCall(iter([]), timeout=TIMEOUT)) == []


def test_custom_metadata(stub: Any) -> None:  # noqa: ANN401
    metadata = ((INITIAL, "test_initial_metadata_value"), (TRAILING, b"\xab\xab\xab"))
    _, unary = stub.UnaryCall.with_call(large_request(), metadata=metadata, timeout=TIMEOUT)
    duplex = stub.FullDuplexCall(iter([output_request(314_159)]), metadata=metadata, timeout=TIMEOUT)
    assert [len(response.payload.body) for response in duplex] == [314_159]
    for call in (unary, duplex):
        assert (INITIAL, "test_initial_metadata_value") in [(key, value) for key, value in call.initial_metadata()]
        assert (TRAILING, b"\xab\xab\xab") in [(key, value) for key, value in call.trailing_metadata()]


@pytest.mark.parametrize("message", ["test status message", SPECIAL])
def test_status_code_and_message_and_special_status_message(stub: Any, message: str) -> None:  # noqa: ANN401
    status = messages.EchoStatus(code=2, message=message)
    unary = failure(lambda: stub.UnaryCall(messages.SimpleRequest(response_status=status), timeout=TIMEOUT))
    request = messages.StreamingOutputCallRequest(response_status=status)
    duplex = failure(lambda: list(stub.FullDuplexCall(iter([request]), timeout=TIMEOUT)))
    for error in (unary, duplex):
        assert (error.code(), error.details()) == (grpc.StatusCode.UNKNOWN, message)


def test_unimplemented_method(stub: Any) -> None:  # noqa: ANN401
    error = failure(lambda: stub.UnimplementedCall(messages.Empty(), timeout=TIMEOUT))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


def test_unimplemented_service(channel: grpc.Channel) -> None:
    stub = services.UnimplementedServiceStub(channel)
    error = failure(lambda: stub.UnimplementedCall(messages.Empty(), timeout=TIMEOUT))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


def test_cancel_after_begin(stub: Any) -> None:  # noqa: ANN401
    call = stub.StreamingInputCall.future(iter(Requests()), timeout=TIMEOUT)
    call.cancel()
    assert call.cancelled()
    assert call.code() is grpc.StatusCode.CANCELLED


def test_cancel_after_first_response(stub: Any) -> None:  # noqa: ANN401
    requests = Requests()
    responses = stub.FullDuplexCall(iter(requests), timeout=TIMEOUT)
    requests.send(output_request(31_415, payload=27_182))
    assert len(next(responses).payload.body) == 31_415
    responses.cancel()
    assert failure(lambda: next(responses)).code() is grpc.StatusCode.CANCELLED
    requests.half_close()


def test_timeout_on_sleeping_server(stub: Any) -> None:  # noqa: ANN401
    requests = Requests()
    requests.send(output_request(payload=27_182))
    responses = stub.FullDuplexCall(iter(requests), timeout=0.001)
    assert failure(lambda: next(responses)).code() is grpc.StatusCode.DEADLINE_EXCEEDED
    requests.half_close()


def test_concurrent_large_unary(stub: Any) -> None:  # noqa: ANN401
    calls = [stub.UnaryCall.future(large_request(), timeout=60) for _ in range(200)]
    assert {len(call.result().payload.body) for call in calls} == {314_159}
