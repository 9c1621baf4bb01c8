"""What gRPC promises of calls that grpcio's client never makes, sent frame by frame to grpcio's server and to ours."""

from __future__ import annotations

import gzip
import time
import zlib

import pytest

from services.common.rpc import Limits, Status
from tests.integration.services.common.rpc.frames import RawConnection, body, headers, prefixed
from tests.integration.services.common.rpc.servers import (
    COLLECT,
    ECHO,
    FAIL,
    REPEAT,
    SLEEP,
    STREAM,
    Kind,
    Options,
    RunningServer,
    running,
)

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    "content_type", ["application/grpc", "application/grpc+proto", "application/grpc+x", "application/grpc;v=1"]
)
def test_every_content_type_of_grpc_is_answered(server: RunningServer, content_type: str) -> None:
    with RawConnection(server.address) as connection:
        connection.call(1, ECHO, prefixed(b"hello"), content_type=content_type)
        answer = connection.answer(1)
        assert (answer.status, answer.data) == (0, prefixed(b"hello"))
        assert answer.fields[":status"] == "200"
        assert answer.fields["content-type"].startswith("application/grpc")


@pytest.mark.parametrize("content_type", ["application/json", "application/grpcx", "text/html", None])
def test_other_content_types_are_refused_as_http_does(our_server: RunningServer, content_type: str | None) -> None:
    with RawConnection(our_server.address) as connection:
        connection.call(1, ECHO, prefixed(b"hello"), content_type=content_type)
        answer = connection.answer(1)
        assert answer.fields[":status"] == "415"
        assert b"gRPC" in answer.data


def test_other_http_methods_are_refused_with_a_word_of_explanation(our_server: RunningServer) -> None:
    with RawConnection(our_server.address) as connection:
        connection.call(1, "/", _method="GET", content_type=None)
        assert connection.answer(1).fields[":status"] == "405"
        assert b"gRPC" in connection.answers[1].data


def test_errors_before_an_answer_are_trailers_only(server: RunningServer) -> None:
    with RawConnection(server.address) as connection:
        connection.call(1, "/no.Service/Method", prefixed(b""))
        connection.call(3, FAIL, prefixed(b'{"code": "NOT_FOUND", "details": "n\\u00f6 %"}'))
        assert (connection.answer(1).status, connection.answer(3).status) == (Status.UNIMPLEMENTED, Status.NOT_FOUND)
        for stream in (1, 3):
            assert connection.answers[stream].fields[":status"] == "200"
            assert connection.answers[stream].data == b""
            assert connection.answers[stream].blocks == 1
        assert connection.answers[3].fields["grpc-message"] == "n%C3%B6 %25"


@pytest.mark.parametrize("timeout", ["1H", "1M", "20S", "20000m", "20000000u", "99999999n", "00000001M", "99999999H"])
def test_every_unit_of_a_timeout_is_understood(server: RunningServer, timeout: str) -> None:
    seconds = int(timeout[:-1]) * {"H": 3600, "M": 60, "S": 1, "m": 1e-3, "u": 1e-6, "n": 1e-9}[timeout[-1]]
    with RawConnection(server.address) as connection:
        connection.call(1, "/test.Test/Inspect", prefixed(b""), grpc_timeout=timeout)
        answer = connection.answer(1)
        left = float(answer.data.partition(b'"time_remaining": ')[2].partition(b",")[0])
        assert answer.status == 0
        # grpcio rounds, and takes hundreds of years for none.
        assert seconds * 0.9 - 2 < left <= seconds * 1.01 or (left == float("inf") or seconds > 1e8)


@pytest.mark.parametrize("timeout", ["", "S", "1", "1s", "-1S", "1.5S", "123456789S", "+1S", "1 S", "\u00b2S"])
def test_what_is_no_timeout_is_refused(our_server: RunningServer, timeout: str) -> None:
    with RawConnection(our_server.address) as connection:
        connection.call(1, ECHO, prefixed(b""), grpc_timeout=timeout)
        assert connection.answer(1).status == Status.INTERNAL
        assert "grpc-timeout" in connection.answers[1].fields["grpc-message"]


@pytest.mark.parametrize("timeout", ["100m", "1n"])
def test_the_server_ends_a_call_at_its_deadline_by_itself(server: RunningServer, timeout: str) -> None:
    with RawConnection(server.address) as connection:
        begun = time.monotonic()
        connection.call(1, SLEEP, prefixed(b""), grpc_timeout=timeout)
        answer = connection.answer(1)
        assert time.monotonic() - begun < 10
        # grpcio resets what has passed before it was looked at.
        assert answer.status == Status.DEADLINE_EXCEEDED or (server.kind == "grpcio" and answer.reset is not None)
        if timeout == "100m":
            server.seen.wait("cancelled")


@pytest.mark.parametrize("path", [ECHO, REPEAT])
@pytest.mark.parametrize("messages", [0, 2])
def test_none_or_two_requests_where_there_is_to_be_one_are_refused(
    our_server: RunningServer, path: str, messages: int
) -> None:
    with RawConnection(our_server.address) as connection:
        connection.send(headers(connection.encoder, 1, path))
        connection.send(body(1, prefixed(b"1 10") * messages, ended=True))
        assert connection.answer(1).status == Status.UNIMPLEMENTED
        assert "expected one request" in connection.answers[1].fields["grpc-message"]


def test_a_request_without_a_body_is_none(our_server: RunningServer) -> None:
    with RawConnection(our_server.address) as connection:
        connection.call(1, ECHO)
        connection.call(3, STREAM)
        assert connection.answer(1).status == Status.UNIMPLEMENTED
        assert connection.answer(3).status == Status.OK


def test_a_message_that_ends_early_is_an_error(our_server: RunningServer) -> None:
    with RawConnection(our_server.address) as connection:
        for stream, path in ((1, ECHO), (3, STREAM), (5, COLLECT)):
            connection.call(stream, path, prefixed(b"hello", length=6))
        our_server.seen.may_read.set()
        assert {connection.answer(stream).status for stream in (1, 3, 5)} == {Status.INTERNAL}


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_flagged_messages_are_inflated_and_others_are_not(server: RunningServer, encoding: str) -> None:
    compress = gzip.compress if encoding == "gzip" else zlib.compress
    sent = prefixed(compress(b"one"), 1) + prefixed(b"two") + prefixed(compress(b""), 1)
    with RawConnection(server.address) as connection:
        connection.call(1, STREAM, sent, grpc_encoding=encoding, grpc_accept_encoding="identity")
        answer = connection.answer(1)
        assert (answer.status, answer.data) == (0, prefixed(b"one") + prefixed(b"two") + prefixed(b""))


@pytest.mark.parametrize(
    ("encoding", "sent", "status"),
    [
        (None, prefixed(b"x", 1), Status.INTERNAL),
        ("identity", prefixed(b"x", 1), Status.INTERNAL),
        ("gzip", prefixed(b"no gzip", 1), Status.INTERNAL),
        ("gzip", prefixed(gzip.compress(b"x", mtime=0)[:-1], 1), Status.INTERNAL),
        ("gzip", prefixed(gzip.compress(b"x", mtime=0) + b"more", 1), Status.INTERNAL),
        ("gzip", prefixed(b"", 1), Status.INTERNAL),
        ("snappy", prefixed(b"x"), Status.UNIMPLEMENTED),
        (None, prefixed(b"x", 2), Status.INTERNAL),
    ],
)
def test_what_is_not_compressed_as_it_says_is_refused(
    our_server: RunningServer, encoding: str | None, sent: bytes, status: Status
) -> None:
    with RawConnection(our_server.address) as connection:
        connection.call(1, ECHO, sent, grpc_encoding=encoding)
        assert connection.answer(1).status == status
        assert connection.answers[1].fields["grpc-accept-encoding"] == "identity,deflate,gzip"
        connection.call(3, ECHO, prefixed(b"next"))
        assert connection.answer(3).data == prefixed(b"next")


def test_a_prefix_that_promises_too_much_is_refused_at_once(server: RunningServer) -> None:
    with RawConnection(server.address) as connection:
        connection.send(headers(connection.encoder, 1, STREAM), body(1, prefixed(b"", length=2**32 - 1)))
        assert connection.answer(1).status == Status.RESOURCE_EXHAUSTED
        connection.call(3, ECHO, prefixed(b"next"))
        assert connection.answer(3).data == prefixed(b"next")


def test_messages_in_parts_are_bounded_on_a_connection(our_kind: Kind) -> None:
    limits = Limits(max_receive_message_bytes=10_000, max_partial_bytes=25_000)
    with running(our_kind, Options(limits=limits)) as server, RawConnection(server.address) as connection:
        part = prefixed(bytes(9_000), length=10_000)
        for stream in (1, 3, 5):
            connection.send(headers(connection.encoder, stream, STREAM), body(stream, part))
        assert connection.answer(5).status == Status.RESOURCE_EXHAUSTED
        for stream in (1, 3):
            connection.send(body(stream, bytes(1_000), ended=True))
            assert connection.answer(stream).data == prefixed(bytes(10_000))
        connection.send(headers(connection.encoder, 7, STREAM), body(7, part), body(7, bytes(1_000), ended=True))
        assert connection.answer(7).status == 0


def test_trailers_of_a_request_end_it(server: RunningServer) -> None:
    with RawConnection(server.address) as connection:
        connection.send(headers(connection.encoder, 1, ECHO), body(1, prefixed(b"hello")))
        trailers = headers(connection.encoder, 1, "", ended=True)
        trailers.data = connection.encoder.encode([("x-after", "all")])
        connection.send(trailers)
        if server.kind != "grpcio":
            assert connection.answer(1).data == prefixed(b"hello")


def test_a_call_that_is_over_for_the_server_is_reset_if_the_client_goes_on(our_kind: Kind) -> None:
    options = Options(limits=Limits(linger_seconds=0.3))
    with running(our_kind, options) as server, RawConnection(server.address) as connection:
        connection.send(headers(connection.encoder, 1, "/no.Service/Method"))
        assert connection.answer(1).status == Status.UNIMPLEMENTED
        connection.send(body(1, bytes(1000)))
        connection.until(lambda: connection.answers[1].reset is not None)
        assert connection.answers[1].reset == 0
        connection.call(3, ECHO, prefixed(b"next"))
        assert connection.answer(3).data == prefixed(b"next")
