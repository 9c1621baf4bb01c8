"""Readiness probes: whether a program of the stack answers, asked in the way in which its users will."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Any

import grpc
import httpx
from grpc_health.v1 import health_pb2, health_pb2_grpc

from steersman.client import ConnectionOptions, open_channel

TIMEOUT_SECONDS = 3.0
"""How long one question may take."""


class Answer(enum.Enum):
    """What a probe gets to hear."""

    READY = "ready"
    NOT_READY = "not ready"
    """Nobody listens, or what listens says that it is not ready."""
    SILENT = "silent"
    """Something takes the connection and says nothing for `TIMEOUT_SECONDS`."""


def grpc_serving(address: str) -> Answer:
    """Asks a gRPC server whether it is SERVING, on `grpc.health.v1`.

    Args:
        address: `host:port`.
    """
    with open_channel(ConnectionOptions((address,))) as channel:
        # The stub's type does not know its methods.
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            silent = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            return Answer.SILENT if silent else Answer.NOT_READY
        serving = answer.status == health_pb2.HealthCheckResponse.SERVING
        return Answer.READY if serving else Answer.NOT_READY


def http_ok(*urls: str, token_file: Path | None = None) -> Answer:
    """Asks whether a GET of every URL is answered with success.

    Args:
        urls: What to get.
        token_file: File with a bearer token to send, if any.
    """
    for url in urls:
        try:
            headers = {"Authorization": f"Bearer {token_file.read_text().strip()}"} if token_file else {}
            answer = httpx.get(url, headers=headers, timeout=TIMEOUT_SECONDS, trust_env=False)
        except httpx.TimeoutException:
            return Answer.SILENT
        except (httpx.HTTPError, OSError):
            return Answer.NOT_READY
        if not answer.is_success:
            return Answer.NOT_READY
    return Answer.READY
