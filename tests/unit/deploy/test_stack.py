"""The stack's start and stop under supervisor, with programs that are small and quick to start."""

from __future__ import annotations

import dataclasses
import functools
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deploy import health, layout, processes, stack, supervision
from deploy.own_settings import own_settings
from deploy.programs import Program
from steersman.errors import FailedPreconditionError, UnavailableError
from steersman.settings import Settings


@pytest.fixture
def settings(short_folder: Path, request: pytest.FixtureRequest) -> Iterator[Settings]:
    chosen = own_settings(short_folder / f"{abs(hash(request.node.name)) % 10_000}")
    yield chosen
    stack.stop(chosen)


def web_server(settings: Settings) -> Program:
    """A program that answers HTTP where the gateway would listen."""
    host, port = settings.gateway_address.split(":")
    return Program(
        name="web",
        command=(sys.executable, "-m", "http.server", "--bind", host, port),
        address=settings.gateway_address,
        ports={"gateway_address": settings.gateway_address},
        is_ready=functools.partial(health.http_ok, f"http://{settings.gateway_address}/"),
    )


def python(name: str, code: str) -> Program:
    """A program that runs a line of Python and is never ready."""
    return Program(name, (sys.executable, "-c", code), "", {}, is_ready=lambda: False)


def pid_of(settings: Settings, programs: list[Program]) -> int:
    pid = stack.status(settings, programs)[0].pid
    assert pid is not None
    return pid


def test_start_returns_when_ready_and_stop_leaves_nothing(settings: Settings) -> None:
    web = web_server(settings)
    seen: list[str] = []

    assert stack.start(settings, [web], watch=lambda states: seen.append(states[0].state))

    assert health.http_ok(f"http://{settings.gateway_address}/")
    assert seen[-1] == "ready"
    (status,) = stack.status(settings, [web])
    assert status.ready
    assert status.memory_bytes
    assert len(processes.members(settings)) == 2  # The web server and supervisor.

    assert stack.stop(settings)

    assert processes.members(settings) == set()
    assert not health.http_ok(f"http://{settings.gateway_address}/")
    assert stack.status(settings, [web])[0].state == "stopped"


def test_start_and_stop_do_no_harm_the_second_time(settings: Settings) -> None:
    web = web_server(settings)
    assert stack.start(settings, [web])
    pid = pid_of(settings, [web])

    assert not stack.start(settings, [web])

    assert pid_of(settings, [web]) == pid
    assert stack.stop(settings)
    assert not stack.stop(settings)


def test_other_settings_are_not_mistaken_for_the_running_ones(settings: Settings) -> None:
    web = web_server(settings)
    stack.start(settings, [web])

    with pytest.raises(FailedPreconditionError, match="other settings"):
        stack.start(settings.model_copy(update={"log_level": "DEBUG"}), [web])

    assert stack.status(settings, [web])[0].ready


def test_what_crashes_is_started_again(settings: Settings) -> None:
    web = web_server(settings)
    stack.start(settings, [web])
    pid = pid_of(settings, [web])

    os.kill(pid, signal.SIGKILL)

    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        (status,) = stack.status(settings, [web])
        if status.ready and status.pid != pid:
            break
        time.sleep(0.1)
    assert status.ready
    assert status.pid != pid


def test_what_keeps_crashing_is_named_with_its_log_and_all_is_stopped(settings: Settings) -> None:
    crashing = python("crashing", "raise SystemExit('no compass on board')")

    with pytest.raises(stack.ProgramCrashedError, match="crashing keeps crashing") as caught:
        stack.start(settings, [web_server(settings), crashing])

    assert caught.value.program == "crashing"
    assert "no compass on board" in caught.value.log_tail
    assert processes.members(settings) == set()


def test_what_never_answers_is_named_and_all_is_stopped(settings: Settings) -> None:
    silent = python("silent", "import time; time.sleep(1000)")

    with pytest.raises(UnavailableError, match=r"not: silent;"):
        stack.start(settings, [silent], timeout_seconds=1)

    assert processes.members(settings) == set()


def test_a_command_that_does_not_exist_is_named(settings: Settings) -> None:
    missing = dataclasses.replace(python("missing", ""), command=("/nonexistent/program",))

    with pytest.raises(stack.ProgramCrashedError, match="/nonexistent/program"):
        stack.start(settings, [missing])


def test_processes_that_left_their_group_and_ignore_sigterm_are_ended_too(settings: Settings) -> None:
    child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(1000)"
    parent = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}], start_new_session=True)"
    serve = "; import http.server as h; h.test(h.SimpleHTTPRequestHandler, port=%s, bind=%r)"
    host, port = settings.gateway_address.split(":")
    web = dataclasses.replace(
        web_server(settings), command=(sys.executable, "-c", parent + serve % (port, host)), stop_seconds=2
    )
    stack.start(settings, [web])
    left = processes.members(settings)
    assert any(process.cmdline()[-1] == child for process in left)

    stack.stop(settings)

    assert not any(processes.is_alive(process) for process in left)


def test_leftovers_of_a_killed_supervisor_do_not_hinder_the_next_start(settings: Settings) -> None:
    web = web_server(settings)
    stack.start(settings, [web])
    supervisor = supervision.connect(layout.absolute(settings))
    assert supervisor is not None
    psutil.Process(supervisor.pid()).kill()
    old = processes.members(settings)
    assert old

    assert stack.start(settings, [web])

    assert not any(processes.is_alive(process) for process in old)
    assert stack.status(settings, [web])[0].ready
