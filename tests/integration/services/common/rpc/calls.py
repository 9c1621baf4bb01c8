"""Calls of grpcio's blocking client, with bytes as messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import pytest

TIMEOUT = 20.0
"""Seconds that a call may take in a test where time does not matter."""


def unary(channel: grpc.Channel, path: str) -> grpc.UnaryUnaryMultiCallable[bytes, bytes]:
    """A method of one request and one answer."""
    return channel.unary_unary(path)


def unary_stream(channel: grpc.Channel, path: str) -> grpc.UnaryStreamMultiCallable[bytes, bytes]:
    """A method of one request and many answers."""
    return channel.unary_stream(path)


def stream_unary(channel: grpc.Channel, path: str) -> grpc.StreamUnaryMultiCallable[bytes, bytes]:
    """A method of many requests and one answer."""
    return channel.stream_unary(path)


def stream_stream(channel: grpc.Channel, path: str) -> grpc.StreamStreamMultiCallable[bytes, bytes]:
    """A method of many requests and many answers."""
    return channel.stream_stream(path)


def failure(call: Callable[[], object]) -> Any:  # noqa: ANN401 - an RpcError is also a Call
    """Gives the error of a call that has to fail."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value
