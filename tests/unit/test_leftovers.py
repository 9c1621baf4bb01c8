"""What a session leaves behind is found, named after the test that started it, and ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests import leftovers

SLEEP = "import time; time.sleep(1000)"
# It ends at once, like any parent that forgets its children.
FORGETS = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {SLEEP!r}], stdout=subprocess.DEVNULL, start_new_session=True)
print(child.pid)
"""


def of_a_session(folder: Path) -> dict[str, str]:
    return os.environ | {leftovers.FOLDER_VARIABLE: str(folder)}


def sleeping_child(folder: Path) -> int:
    return subprocess.Popen([sys.executable, "-c", SLEEP], env=of_a_session(folder)).pid


def orphan(folder: Path) -> int:
    command = [sys.executable, "-c", FORGETS]
    return int(subprocess.run(command, env=of_a_session(folder), stdout=subprocess.PIPE, check=True).stdout)


def deaf_child(folder: Path) -> int:
    deaf = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); {SLEEP}"
    process = subprocess.Popen([sys.executable, "-c", deaf], env=of_a_session(folder), stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process.pid


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "_GRACE_SECONDS", 0.5)


@pytest.mark.parametrize("leave", [sleeping_child, orphan, deaf_child])
def test_a_process_that_is_left_is_named_and_ended(tmp_path: Path, leave: Callable[[Path], int]) -> None:
    process = psutil.Process(leave(tmp_path))

    (described,) = leftovers.end_leftovers(tmp_path)

    assert f"process {process.pid}, started during tests/unit/test_leftovers.py::test_a_process" in described
    assert "time.sleep(1000)" in described
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_what_ends_by_itself_in_time_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "_GRACE_SECONDS", 30)
    with subprocess.Popen([sys.executable, "-c", "input()"], env=of_a_session(tmp_path), stdin=subprocess.PIPE) as ends:
        assert ends.stdin is not None
        ends.stdin.write(b"\n")
        ends.stdin.close()
        assert leftovers.end_leftovers(tmp_path) == []


def test_a_process_behind_multiprocessings_server_is_left_and_the_server_is_not() -> None:
    script = """
import multiprocessing, time
from pathlib import Path
from tests import leftovers

folder = Path("/nowhere/multiprocessing")
leftovers.mark_from_now_on(folder)
leftovers._GRACE_SECONDS = 0.5
worker = multiprocessing.get_context("forkserver").Process(target=time.sleep, args=(1000,))
worker.start()
(described,) = leftovers.end_leftovers(folder)
assert f"process {worker.pid}," in described
assert leftovers.end_leftovers(folder) == []
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_other_sessions_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    process = psutil.Process(sleeping_child(tmp_path / "other"))
    try:
        assert leftovers.end_leftovers(tmp_path) == []
        assert process.status() != psutil.STATUS_ZOMBIE
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
