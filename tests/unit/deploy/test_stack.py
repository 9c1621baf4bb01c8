"""The stack's start and stop under supervisor, with programs that are small and quick to start."""

from __future__ import annotations

import dataclasses
import fcntl
import functools
import os
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from deploy import health, layout, processes, stack, supervision
from deploy.health import Answer
from deploy.own_settings import own_settings
from deploy.programs import Program, local_programs
from steersman.errors import FailedPreconditionError, UnavailableError
from steersman.settings import Settings
from tests import odd_names


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
        probe=functools.partial(health.http_ok, f"http://{settings.gateway_address}/"),
    )


def python(name: str, code: str) -> Program:
    """A program that runs a line of Python and is never ready."""
    return Program(name, (sys.executable, "-c", code), "", {}, probe=lambda: Answer.NOT_READY)


def pid_of(settings: Settings, programs: list[Program]) -> int:
    pid = stack.status(settings, programs)[0].pid
    assert pid is not None
    return pid


def test_start_returns_when_ready_and_stop_leaves_nothing(settings: Settings) -> None:
    web = web_server(settings)
    seen: list[str] = []

    assert stack.start(settings, [web], watch=lambda states: seen.append(states[0].state))

    assert health.http_ok(f"http://{settings.gateway_address}/") is Answer.READY
    assert seen[-1] == "ready"
    (status,) = stack.status(settings, [web])
    assert status.ready
    assert status.memory_bytes
    assert len(processes.members(settings)) == 2  # The web server and supervisor.

    assert stack.stop(settings)

    assert processes.members(settings) == set()
    assert health.http_ok(f"http://{settings.gateway_address}/") is Answer.NOT_READY
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


@pytest.mark.parametrize("name", [odd_names.EVERYTHING, odd_names.KINDS["long"]], ids=["everything", "long"])
def test_a_folder_of_any_name_holds_all_files_and_nothing_lies_beside_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "100% temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    settings = own_settings(tmp_path / name)
    link = layout.plain_folder(settings)
    leave = "import tempfile; tempfile.mkdtemp(); tempfile.mkstemp()"
    serve = "; import http.server as h; h.test(h.SimpleHTTPRequestHandler, port=%s, bind=%r)"
    host, port = settings.gateway_address.split(":")
    serve %= (port, host)
    web = dataclasses.replace(web_server(settings), command=(sys.executable, "-c", leave + serve))
    try:
        assert stack.start(settings, [web])

        assert len(list((settings.var_dir / "tmp").iterdir())) == 2
        assert link.resolve() == settings.var_dir
        deadline = time.monotonic() + 30
        while "GET" not in stack.log_tail(settings, "web"):
            assert time.monotonic() < deadline, stack.log_tail(settings, "web")
            time.sleep(0.05)
    finally:
        stack.stop(settings)

    assert processes.members(settings) == set()
    assert not link.parent.exists()
    assert sorted(tmp_path.iterdir()) == sorted([temporary, tmp_path / Path(name).parts[0]])
    assert list(temporary.iterdir()) == list((settings.var_dir / "tmp").iterdir()) == []


def test_what_others_must_not_read_is_private(settings: Settings) -> None:
    stack.start(settings, [web_server(settings)])

    private = [settings.var_dir, layout.configuration_file(settings), settings.ray_token_file]
    private += [layout.supervisor_socket(settings), layout.log_file(settings, "web")]
    assert [path for path in private if path.stat().st_mode & 0o077] == []


def test_no_secret_of_a_setting_is_seen_in_files_and_process_lists(settings: Settings) -> None:
    secret = "s3cr3t"  # noqa: S105 - a password to look for
    secretive = settings.model_copy(update={"database_url": f"postgresql://me:{secret}@127.0.0.1/base"})

    stack.start(secretive, [web_server(secretive)])

    token = settings.ray_token_file.read_text()
    written = [path.read_text() for path in settings.var_dir.rglob("*") if path.is_file() and path.name != "auth_token"]
    commands = [" ".join(each.cmdline()) for each in processes.members(settings)]
    commands += [" ".join(program.command) for program in local_programs(secretive)]
    assert not [text for text in written + commands if secret in text or token in text]


def test_a_supervisor_that_is_silent_is_named_and_can_be_stopped(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    web = web_server(settings)
    stack.start(settings, [web])
    monkeypatch.setattr(supervision, "_ANSWER_SECONDS", 0.5)
    supervisor = supervision.connect(settings)
    assert supervisor is not None
    os.kill(supervisor.pid(), signal.SIGSTOP)

    for attempt in (stack.start, stack.status):
        with pytest.raises(UnavailableError, match=r"supervisor at unix:.* silent; end it with: make down"):
            attempt(settings, [web])
    assert stack.stop(settings)

    assert processes.members(settings) == set()


def test_a_program_that_takes_connections_and_is_silent_is_named_with_its_address(settings: Settings) -> None:
    host, port = settings.gateway_address.split(":")
    code = f"import socket, time; s = socket.create_server(({host!r}, {port})); time.sleep(1000)"
    silent = dataclasses.replace(web_server(settings), command=(sys.executable, "-c", code))

    with pytest.raises(
        UnavailableError, match=rf"not: web \({settings.gateway_address} takes connections and is silent"
    ):
        stack.start(settings, [silent], timeout_seconds=1)


def test_whoever_stops_the_stack_is_not_taken_for_a_program_that_is_late(settings: Settings) -> None:
    silent = python("silent", "import time; time.sleep(1000)")
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(stack.start, settings, [silent])
        while not processes.members(settings):
            time.sleep(0.05)

        stack.stop(settings)

        with pytest.raises(UnavailableError, match="was stopped before every program answered"):
            starting.result(timeout=30)


def test_a_lock_that_is_held_is_waited_for_and_then_named(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    layout.make_folders(settings)
    monkeypatch.setattr(stack, "_LOCK_SECONDS", 0.1)
    with layout.lock_file(settings).open("w") as held:
        held.write("4711")
        held.flush()
        fcntl.flock(held, fcntl.LOCK_EX)

        with pytest.raises(UnavailableError, match=r"another process \(4711\) has been starting or stopping"):
            stack.start(settings, [web_server(settings)])

    assert stack.start(settings, [web_server(settings)])


def test_a_reboot_that_left_pid_file_socket_and_configuration_does_not_hinder_the_next_start(
    settings: Settings,
) -> None:
    web = web_server(settings)
    stack.start(settings, [web])
    processes.end(processes.members(settings), grace_seconds=0)
    (settings.var_dir / "supervisor" / "supervisord.pid").write_text(str(os.getpid()))
    assert layout.supervisor_socket(settings).is_socket()

    assert stack.start(settings, [web])

    assert stack.status(settings, [web])[0].ready


def test_stopping_nothing_makes_no_folder(tmp_path: Path) -> None:
    assert not stack.stop(own_settings(tmp_path / "var"))

    assert list(tmp_path.iterdir()) == []


def test_a_second_start_from_another_terminal_is_no_other_settings(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    web = web_server(settings)
    stack.start(settings, [web])
    monkeypatch.setenv("PATH", f"/opt:{os.environ['PATH']}")
    monkeypatch.setenv("NO_PROXY", "example.org")

    assert not stack.start(settings, [web])
