"""What gRPC promises of calls, of grpcio's server and of ours alike, asked by grpcio's client."""

from __future__ import annotations

import functools
import json
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from services.common.rpc import Limits
from tests.integration.services.common.rpc.calls import (
    TIMEOUT,
    failure,
    stream_stream,
    stream_unary,
    unary,
    unary_stream,
)
from tests.integration.services.common.rpc.servers import (
    COLLECT,
    ECHO,
    FAIL,
    INSPECT,
    METADATA,
    RAISE,
    REPEAT,
    STREAM,
    Kind,
    Options,
    RunningServer,
    running,
)

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("size", [0, 1, 5, 16_379, 16_384, 65_531, 1_000_000, 4 * 1024 * 1024])
def test_messages_of_any_size_come_back(channel: grpc.Channel, size: int) -> None:
    message = bytes(index % 251 for index in range(min(size, 1000))) * (size // min(size, 1000) if size else 0)
    assert unary(channel, ECHO)(message, timeout=TIMEOUT) == message


def test_many_calls_at_once_are_told_apart(channel: grpc.Channel) -> None:
    echo = unary(channel, ECHO)
    calls = [echo.future(b"%d" % number, timeout=TIMEOUT) for number in range(500)]
    assert [call.result() for call in calls] == [b"%d" % number for number in range(500)]


@pytest.mark.parametrize("path", ["/test.Test/Nothing", "/no.Service/Echo", "/", "/test.Test/Echo/"])
def test_what_is_not_there_is_unimplemented(channel: grpc.Channel, path: str) -> None:
    error = failure(lambda: unary(channel, path)(b"", timeout=TIMEOUT))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert error.details() == "Method not found!"


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_every_status_arrives(channel: grpc.Channel, code: grpc.StatusCode) -> None:
    request = json.dumps({"code": code.name, "details": "why"}).encode()
    error = failure(lambda: unary(channel, FAIL)(request, timeout=TIMEOUT))
    assert (error.code(), error.details()) == (code, "why")


@pytest.mark.parametrize(
    "details",
    ["", "plain", "100 %", "%41", "no rööm left", "two\nlines\ttab", "\x00\x7f", "猫 🐱", " spaces ", "a" * 4000],
)
def test_every_message_of_a_status_arrives(channel: grpc.Channel, details: str) -> None:
    request = json.dumps({"code": "NOT_FOUND", "details": details}).encode()
    assert failure(lambda: unary(channel, FAIL)(request, timeout=TIMEOUT)).details() == details


def test_errors_carry_trailing_metadata_without_initial_metadata(channel: grpc.Channel) -> None:
    request = json.dumps({"code": "ABORTED", "trailing": [["grpc-retry-pushback-ms", "7"], ["x", "y"]]}).encode()
    error = failure(lambda: unary(channel, FAIL)(request, timeout=TIMEOUT))
    trailing = [(entry.key, entry.value) for entry in error.trailing_metadata()]
    assert ("grpc-retry-pushback-ms", "7") in trailing
    assert ("x", "y") in trailing


def test_an_unexpected_exception_ends_its_call_and_nothing_else(channel: grpc.Channel) -> None:
    error = failure(lambda: unary(channel, RAISE)(b"tripped", timeout=TIMEOUT))
    assert error.code() is grpc.StatusCode.UNKNOWN
    assert error.details() == "Unexpected <class 'ValueError'>: tripped"
    assert unary(channel, ECHO)(b"next", timeout=TIMEOUT) == b"next"


def test_metadata_of_both_kinds_go_both_ways(channel: grpc.Channel) -> None:
    sent = (
        ("initial", "text"),
        ("initial", "text again"),
        ("initial-bin", b"\x00\xff\x80"),
        ("initial-empty-bin", b""),
        ("trailing", "more, with = and %"),
        ("trailing-bin", bytes(range(256))),
    )
    call: Any = unary_stream(channel, METADATA)(b"x", metadata=sent, timeout=TIMEOUT)
    initial = [(entry.key, entry.value) for entry in call.initial_metadata()]
    assert list(call) == [b"x"]
    trailing = [(entry.key, entry.value) for entry in call.trailing_metadata()]
    assert [pair for pair in initial if pair[0].startswith("initial")] == list(sent[:4])
    assert trailing == list(sent[4:])


def test_a_servicer_sees_metadata_peer_and_no_headers_of_the_protocol(
    channel: grpc.Channel, server: RunningServer
) -> None:
    sent = (("a", "b"), ("a", "c"), ("x.y_z-bin", b"\x01"))
    found = json.loads(unary(channel, INSPECT)(b"", metadata=sent, timeout=TIMEOUT))
    names = [key for key, _ in found["metadata"]]
    assert [pair for pair in found["metadata"] if pair[0] != "user-agent"] == [
        ["a", "b"],
        ["a", "c"],
        ["x.y_z-bin", "01"],
    ]
    assert "user-agent" in names
    assert found["peer"].startswith("ipv4:127.0.0.1:")
    assert found["auth"] == {} or server.kind == "grpcio"
    assert found["identity_key"] is None


def test_streams_keep_order_and_half_close(channel: grpc.Channel) -> None:
    sent = [bytes([number % 256]) * (number * 37) for number in range(500)]
    assert list(stream_stream(channel, STREAM)(iter(sent), timeout=TIMEOUT)) == sent


def test_a_stream_without_messages_ends_well(channel: grpc.Channel) -> None:
    assert list(stream_stream(channel, STREAM)(iter([]), timeout=TIMEOUT)) == []


def test_many_messages_are_collected_and_answered_once(channel: grpc.Channel, server: RunningServer) -> None:
    server.seen.may_read.set()
    assert stream_unary(channel, COLLECT)((bytes(1000) for _ in range(2000)), timeout=TIMEOUT) == b"2000 2000000"


def test_one_request_is_answered_many_times(channel: grpc.Channel) -> None:
    answers = list(unary_stream(channel, REPEAT)(b"300 50000", timeout=TIMEOUT))
    assert [int.from_bytes(answer[:4], "big") for answer in answers] == list(range(300))
    assert {len(answer) for answer in answers} == {50_000}


@pytest.mark.parametrize(
    "compression", [grpc.Compression.Gzip, grpc.Compression.Deflate, grpc.Compression.NoCompression]
)
def test_compressed_requests_are_read(server: RunningServer, compression: grpc.Compression) -> None:
    message = bytes(100_000)
    with grpc.insecure_channel(server.address, compression=compression) as channel:
        assert unary(channel, ECHO)(message, timeout=TIMEOUT) == message
        assert list(stream_stream(channel, STREAM)(iter([message] * 20), timeout=TIMEOUT)) == [message] * 20


def test_messages_over_the_limit_are_refused_by_name_and_others_go_on(kind: Kind) -> None:
    options = Options(limits=Limits(max_receive_message_bytes=1000))
    with running(kind, options) as server, grpc.insecure_channel(server.address) as channel:
        assert unary(channel, ECHO)(bytes(1000), timeout=TIMEOUT) == bytes(1000)
        for size in (1001, 100_000, 10_000_000):
            error = failure(functools.partial(unary(channel, ECHO), bytes(size), timeout=TIMEOUT))
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "1000" in error.details()
            assert str(size) in error.details()
        assert unary(channel, ECHO)(bytes(1000), timeout=TIMEOUT) == bytes(1000)


def test_a_small_message_that_inflates_beyond_the_limit_is_refused(kind: Kind) -> None:
    options = Options(limits=Limits(max_receive_message_bytes=100_000))
    with (
        running(kind, options) as server,
        grpc.insecure_channel(server.address, compression=grpc.Compression.Gzip) as channel,
    ):
        error = failure(lambda: unary(channel, ECHO)(bytes(10_000_000), timeout=TIMEOUT))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert unary(channel, ECHO)(bytes(100_000), timeout=TIMEOUT) == bytes(100_000)


def test_an_answer_over_the_limit_is_an_error(kind: Kind) -> None:
    options = Options(limits=Limits(max_send_message_bytes=1000))
    with running(kind, options) as server, grpc.insecure_channel(server.address) as channel:
        error = failure(lambda: unary(channel, ECHO)(bytes(1001), timeout=TIMEOUT))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert unary(channel, ECHO)(bytes(1000), timeout=TIMEOUT) == bytes(1000)


def test_metadata_over_the_limit_are_refused_and_the_connection_goes_on(kind: Kind) -> None:
    options = Options(limits=Limits(max_metadata_bytes=8192))
    with running(kind, options) as server, grpc.insecure_channel(server.address) as channel:
        error = failure(lambda: unary(channel, ECHO)(b"", metadata=(("large", "x" * 10_000),), timeout=TIMEOUT))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert unary(channel, ECHO)(b"", metadata=(("large", "x" * 5000),), timeout=TIMEOUT) == b""


def test_health_and_reflection_are_served(channel: grpc.Channel) -> None:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    serving = health_pb2.HealthCheckResponse.SERVING
    assert stub.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT).status == serving
    unknown = health_pb2.HealthCheckRequest(service="nobody")
    assert failure(lambda: stub.Check(unknown, timeout=TIMEOUT)).code() is grpc.StatusCode.NOT_FOUND
    watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=TIMEOUT)
    assert next(watch).status == serving
    watch.cancel()
    reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    answer = next(reflection.ServerReflectionInfo(asked, timeout=TIMEOUT))
    assert "test.Test" in {service.name for service in answer.list_services_response.service}
