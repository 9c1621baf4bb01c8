"""Readiness probes: whether a program of the stack answers, asked in the way in which its users will."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import httpx
from grpc_health.v1 import health_pb2, health_pb2_grpc

_TIMEOUT_SECONDS = 3.0


def grpc_serving(address: str) -> bool:
    """Tells whether a gRPC server says SERVING on `grpc.health.v1`.

    Args:
        address: `host:port`.
    """
    # A proxy meant for the internet must not get the calls to this machine.
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        # The stub's type does not know its methods.
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=_TIMEOUT_SECONDS)
        except grpc.RpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def http_ok(url: str, token_file: Path | None = None) -> bool:
    """Tells whether a GET is answered with success.

    Args:
        url: What to get.
        token_file: File with a bearer token to send, if any.
    """
    headers = {"Authorization": f"Bearer {token_file.read_text().strip()}"} if token_file else {}
    try:
        return httpx.get(url, headers=headers, timeout=_TIMEOUT_SECONDS, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def all_ok(*urls: str, token_file: Path | None = None) -> bool:
    """Tells whether a GET of every URL is answered with success."""
    return all(http_ok(url, token_file) for url in urls)
