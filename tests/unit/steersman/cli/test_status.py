from __future__ import annotations

import http.server
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from deploy.free_ports import free_address
from steersman.cli.status import _http_state
from tests.command_line import CommandLine
from tests.servers import served, silent_server


@contextmanager
def web_server(status: int) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_everything_up_is_exit_code_0(steersman: CommandLine) -> None:
    with served() as address, web_server(200) as mlflow, web_server(401) as ray:
        addresses = dict.fromkeys(["gateway_address", "trainer_address", "evaluator_address"], address)
        steersman.configure(**addresses, mlflow_url=mlflow, ray_dashboard_url=ray)
        result = steersman("status")
        as_json = steersman("status", "--json")
    assert result.exit_code == as_json.exit_code == 0
    assert result.output.count("serving") == 5
    assert {service["state"] for service in json.loads(as_json.output)} == {"serving"}


def test_one_that_is_down_is_exit_code_1_and_named(steersman: CommandLine) -> None:
    nobody = free_address()
    with served() as address, web_server(200) as mlflow, web_server(200) as ray:
        steersman.configure(
            gateway_address=address,
            trainer_address=nobody,
            evaluator_address=address,
            mlflow_url=mlflow,
            ray_dashboard_url=ray,
        )
        result = steersman("status", "--json")
    assert result.exit_code == 1
    down = [service for service in json.loads(result.output) if service["state"] != "serving"]
    assert down == [{"service": "trainer", "address": nobody, "state": "not reachable"}]


def test_what_takes_connections_and_says_nothing_is_told_from_what_is_not_there(steersman: CommandLine) -> None:
    with silent_server() as silent:
        addresses = dict.fromkeys(["gateway_address", "trainer_address", "evaluator_address"], silent)
        steersman.configure(**addresses, mlflow_url=f"http://{silent}", ray_dashboard_url=f"http://{silent}")
        result = steersman("status", "--json", "--timeout", "0.5")
    assert {service["state"] for service in json.loads(result.output)} == {"not answering"}


def test_a_proxy_is_not_asked_about_this_machine(steersman: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("http_proxy", "https_proxy", "grpc_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    with served() as address, web_server(200) as site:
        addresses = dict.fromkeys(["gateway_address", "trainer_address", "evaluator_address"], address)
        steersman.configure(**addresses, mlflow_url=site, ray_dashboard_url=site.replace("127.0.0.1", "localhost"))
        assert steersman("status").exit_code == 0


def test_web_servers_that_do_not_do_their_work_are_told_apart() -> None:
    with web_server(503) as failing:
        assert _http_state(failing) == "failing with status 503"
    assert _http_state("nothing") == "not a web server"
    assert _http_state(f"http://{free_address()}") == "not reachable"


def test_a_server_that_speaks_something_else_is_no_web_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"220 mail.example ready\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        assert _http_state(f"http://127.0.0.1:{listener.getsockname()[1]}") == "not a web server"
        thread.join()
