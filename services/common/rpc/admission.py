"""Whether a request is a call of gRPC, what its header fields ask, and what others are told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from services.common.rpc.compression import read_encoding
from services.common.rpc.errors import CallError
from services.common.rpc.http2 import Http2
from services.common.rpc.incoming import Incoming
from services.common.rpc.limits import Limits
from services.common.rpc.wire import Status, is_grpc, parse_timeout

_EXPLANATION = b"This port speaks gRPC, that is, HTTP/2 with requests of content type application/grpc.\n"

_HTTP1_ANSWER = (
    b"HTTP/1.1 505 HTTP Version Not Supported\r\ncontent-type: text/plain\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(_EXPLANATION), _EXPLANATION)
)


class Refusal(asyncio.Protocol):
    """For clients that have not agreed on HTTP/2 when they agreed on TLS.

    Args:
        transport: The connection.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        if not explain_to_http1(self._transport, data):
            self._transport.abort()


def explain_to_http1(transport: asyncio.Transport, data: bytes) -> bool:
    """Answers a client that seems to speak HTTP/1.1, and closes; tells whether it did."""
    if not data[:1].isupper():
        return False
    transport.write(_HTTP1_ANSWER)
    transport.close()
    return True


def is_call(known: Mapping[bytes, bytes]) -> bool:
    """Tells by the header fields whether a request is a call."""
    return known.get(b":method") == b"POST" and is_grpc(known.get(b"content-type"))


def explain(http2: Http2, stream: int, known: Mapping[bytes, bytes]) -> None:
    """Answers a request that is HTTP/2 but no call."""
    status = b"415" if known.get(b":method") == b"POST" else b"405"
    http2.respond(stream, ((b":status", status), (b"content-type", b"text/plain")))
    http2.send(stream, _EXPLANATION, ended=True)


def read_head(call: Incoming, known: Mapping[bytes, bytes], limits: Limits) -> None:
    """Reads what the header fields say of a call.

    Raises:
        CallError: If that is refused.
    """
    timeout = known.get(b"grpc-timeout")
    if timeout is not None:
        try:
            call.deadline = time.monotonic() + parse_timeout(timeout)
        except ValueError as error:
            raise CallError(Status.INTERNAL, str(error)) from error
    encoding = known.get(b"grpc-encoding")
    if encoding is not None:
        call.request_encoding = read_encoding(encoding)
    # Values are long where fields are; measuring the names as well would cost as much again for each call.
    if len(b"".join(known.values())) + 32 * len(call.fields) > limits.max_metadata_bytes:
        raise CallError(
            Status.RESOURCE_EXHAUSTED, f"expected at most {limits.max_metadata_bytes} bytes of metadata, got more"
        )
