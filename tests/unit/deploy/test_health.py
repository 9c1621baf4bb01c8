from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health as grpc_health
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy import health
from deploy.free_ports import free_ports


class Guarded(http.server.BaseHTTPRequestHandler):
    """Answers 200 to whoever knows the token, 401 to others."""

    def do_GET(self) -> None:
        self.send_response(200 if self.headers["Authorization"] == "Bearer secret" else 401)
        self.end_headers()


@pytest.fixture
def guarded() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Guarded) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_http_with_and_without_the_token(guarded: str, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret\n")

    assert health.http_ok(guarded, token)
    assert not health.http_ok(guarded)
    assert health.all_ok(guarded, f"{guarded}/other", token_file=token)


def test_nobody_there_is_not_ready() -> None:
    (port,) = free_ports(1)

    assert not health.http_ok(f"http://127.0.0.1:{port}")
    assert not health.grpc_serving(f"127.0.0.1:{port}")


def test_only_serving_is_ready() -> None:
    server = grpc.server(ThreadPoolExecutor(1))
    servicer = grpc_health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()

    servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    assert not health.grpc_serving(address)
    servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    assert health.grpc_serving(address)

    server.stop(None).wait()
