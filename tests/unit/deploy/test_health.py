from __future__ import annotations

import http.server
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health as grpc_health
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy import health
from deploy.free_ports import free_ports
from deploy.health import Answer


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

    assert health.http_ok(guarded) is Answer.NOT_READY
    assert health.http_ok(guarded, f"{guarded}/other", token_file=token) is Answer.READY
    assert health.http_ok(guarded, token_file=tmp_path / "missing") is Answer.NOT_READY


def test_nobody_there_is_not_ready() -> None:
    (port,) = free_ports(1)

    assert health.http_ok(f"http://127.0.0.1:{port}") is Answer.NOT_READY
    assert health.grpc_serving(f"127.0.0.1:{port}") is Answer.NOT_READY


@pytest.fixture
def silent() -> Iterator[str]:
    """An address that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_what_takes_connections_and_says_nothing_is_silent(silent: str) -> None:
    began = time.monotonic()

    assert health.http_ok(f"http://{silent}") is Answer.SILENT
    assert health.grpc_serving(silent) is Answer.SILENT
    assert time.monotonic() - began < 15


def test_a_proxy_is_not_asked(guarded: str, silent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = tmp_path / "token"
    token.write_text("secret")
    for name in ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, f"http://{silent}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)

    with server_of_health("SERVING") as address:
        assert health.http_ok(guarded, token_file=token) is Answer.READY
        assert health.grpc_serving(address) is Answer.READY


@contextmanager
def server_of_health(status: str) -> Iterator[str]:
    """A gRPC server that says so, by its address."""
    server = grpc.server(ThreadPoolExecutor(1))
    servicer = grpc_health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    servicer.set("", health_pb2.HealthCheckResponse.ServingStatus.Value(status))
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield address
    server.stop(None).wait()


def test_only_serving_is_ready() -> None:
    with server_of_health("NOT_SERVING") as address:
        assert health.grpc_serving(address) is Answer.NOT_READY
    with server_of_health("SERVING") as address:
        assert health.grpc_serving(address) is Answer.READY
