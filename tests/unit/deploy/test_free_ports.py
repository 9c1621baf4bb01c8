"""Ports that nobody else is given, not even between being found and being listened on."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest

from deploy import free_ports as module
from deploy.free_ports import free_ports, free_ports_in_a_row

# More than a block, so that processes have to find further ones beside each other.
COUNT = 300
PRINTED = f"from deploy.free_ports import free_ports; print(free_ports({COUNT}), flush=True)"


@pytest.fixture(autouse=True)
def _new_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begins a block, so that the ports after the first one are this process's too."""
    monkeypatch.setattr(module, "_own", module._OwnPorts())


def test_processes_that_ask_at_once_are_given_different_ports() -> None:
    command = [sys.executable, "-c", f"{PRINTED}; input()"]
    others = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    try:
        given = free_ports(COUNT)
        for other in others:
            assert other.stdout is not None
            given += json.loads(other.stdout.readline())
    finally:
        for other in others:
            other.communicate(input="\n", timeout=30)
    assert len(set(given)) == len(given) == COUNT * (len(others) + 1)


def test_a_forked_process_does_not_share_its_parents_ports() -> None:
    before = free_ports(1)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.write(writer, json.dumps(free_ports(10)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with os.fdopen(reader) as file:
        theirs = json.loads(file.read())
    assert not {*theirs} & {*before, *free_ports(10)}


def test_ports_are_below_those_of_outgoing_connections_and_can_be_listened_on() -> None:
    for port in free_ports(5):
        assert 20_000 <= port < 32_000
        socket.create_server(("127.0.0.1", port)).close()


def test_ports_that_somebody_listens_on_are_left_out() -> None:
    (first,) = free_ports(1)
    with socket.socket() as server:
        server.bind(("127.0.0.1", first + 1))
        server.listen()
        assert first + 1 not in free_ports(3)


def test_ports_in_a_row_follow_each_other_past_one_that_is_taken() -> None:
    (before,) = free_ports(1)
    with socket.socket() as server:
        server.bind(("127.0.0.1", before + 2))
        first = free_ports_in_a_row(3)
        row = [*range(first, first + 3)]
        assert before + 2 not in row
        for port in row:
            socket.create_server(("127.0.0.1", port)).close()
