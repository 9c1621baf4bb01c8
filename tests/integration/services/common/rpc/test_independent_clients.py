"""Clients in other languages, unmodified, in processes of their own: Node.js, and nghttp2's in C++."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import grpc
import pytest

from tests.integration.services.common.rpc.servers import ECHO, RunningServer
from tests.standard_clients import installation
from tests.standard_clients.installation import installed

pytestmark = [pytest.mark.integration, pytest.mark.long, pytest.mark.timeout(600)]

PROGRAMS = Path(installation.__file__).parent
GRPC_FIELDS = ("-Hcontent-type: application/grpc", "-Hte: trailers")


def run(*command: str, **variables: str) -> str:
    """Runs a program to its end and gives what it printed."""
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def message(tmp_path: Path) -> Path:
    """A file with one message as it goes over the wire."""
    file = tmp_path / "message"
    file.write_bytes(b"\0\0\0\0\5hello")
    return file


def test_grpc_js(server: RunningServer) -> None:
    node, folder = installed(installation.grpc_js)
    program = folder / "program.js"
    program.write_text((PROGRAMS / "grpc_js_program.js").read_text())
    assert json.loads(run(str(node), str(program), server.address)) == {
        "echo": "hello",
        "large": True,
        "many": True,
        "fail": [grpc.StatusCode.NOT_FOUND.value[0], "nö %", "b"],
        "deadline": grpc.StatusCode.DEADLINE_EXCEEDED.value[0],
        "stream": 200,
        "cancelled": grpc.StatusCode.CANCELLED.value[0],
        "after": "still here",
    }


def test_nghttp_sees_the_answer_and_its_trailers(our_server: RunningServer, message: Path) -> None:
    program, variables = installed(installation.nghttp2_program, "nghttp")
    url = f"http://{our_server.address}{ECHO}"
    printed = run(str(program), "-v", "--no-dep", *GRPC_FIELDS, f"--data={message}", url, **variables)
    assert ":status: 200" in printed
    assert "content-type: application/grpc" in printed
    assert "hello" in printed
    assert "grpc-status: 0" in printed


@pytest.mark.parametrize(("connections", "streams"), [(1, 1), (1, 100), (8, 32)])
def test_h2load_is_answered_every_time(
    our_server: RunningServer, message: Path, connections: int, streams: int
) -> None:
    program, variables = installed(installation.nghttp2_program, "h2load")
    url = f"http://{our_server.address}{ECHO}"
    calls = 5000
    load = [f"-n{calls}", f"-c{connections}", f"-m{streams}", *GRPC_FIELDS, f"--data={message}"]
    printed = run(str(program), *load, url, **variables)
    assert re.search(rf"{calls} succeeded, 0 failed, 0 errored, 0 timeout", printed), printed


def test_h2spec_finds_nothing(our_server: RunningServer) -> None:
    h2spec = shutil.which("h2spec")
    if h2spec is None:
        pytest.skip("needs h2spec on PATH")
    printed = run(h2spec, "--host", "127.0.0.1", "--port", str(our_server.port), "--path", ECHO, "--timeout", "5")
    assert " 0 failed" in printed, printed
