"""Forked processes of a process that uses clients: they are answered or told, and never hang; it notices nothing."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from steersman import aio
from steersman._client import forks
from tests.scripted_gateway import ScriptedGateway, scripted

pytestmark = pytest.mark.integration

PROGRAM = Path(__file__).with_name("forking_program.py")


@pytest.fixture(scope="module")
def told() -> dict[str, dict[str, str]]:
    """What `forking_program.py` says, which is a process of its own so that this one need not fork."""
    with scripted(ScriptedGateway()) as address:
        command = [sys.executable, str(PROGRAM), address]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    told: dict[str, dict[str, str]] = json.loads(ran.stdout)
    return told


def test_a_client_that_was_not_used_works_in_the_child(told: dict[str, dict[str, str]]) -> None:
    assert told["unused"] == {"client": "answered", "stream": "answered"}


@pytest.mark.parametrize("user", ["client", "stream", "submitting", "new client", "new stream"])
def test_a_child_of_a_process_with_open_clients_is_told(told: dict[str, dict[str, str]], user: str) -> None:
    words = "FailedPreconditionError: expected a process that was not forked while a client was connected"
    assert told["open"][user].startswith(words)


def test_a_child_may_close_what_it_has_inherited(told: dict[str, dict[str, str]]) -> None:
    assert told["open"]["closing"] == "answered"


def test_the_parent_is_answered_before_while_and_after_it_forks(told: dict[str, dict[str, str]]) -> None:
    assert told["parent"] == {"failures": "0", "after": "answered"}


def test_a_child_of_a_process_that_has_closed_its_clients_connects_anew(told: dict[str, dict[str, str]]) -> None:
    assert told["closed"] == {"client": "answered", "stream": "answered"}


async def test_it_is_known_how_grpc_calls_the_thread_that_polls() -> None:
    """Without it, a child could not be told that gRPC is in use."""
    with scripted(ScriptedGateway()) as address:
        async with aio.PolicyClient("scripted", address=address) as client:
            await client.describe()
            assert forks.polls()
            await asyncio.sleep(0)
