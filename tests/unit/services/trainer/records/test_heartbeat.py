from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading
import time
from pathlib import Path

from services.trainer.records.heartbeat import (
    FRESH_SECONDS,
    Life,
    beat,
    keep_beating,
    last_beat,
    life_of,
)


def test_a_process_that_gave_a_sign_of_life_lives(tmp_path: Path) -> None:
    assert last_beat(tmp_path) is None
    assert life_of(None, 1, time.time()) is Life.UNKNOWN
    beat(tmp_path / "run", 2)
    found = last_beat(tmp_path / "run")
    assert life_of(found, 2, time.time()) is Life.ALIVE
    assert life_of(found, 2, time.time() + 3600) is Life.ALIVE, "it can be looked at, however long it was silent"
    assert life_of(found, 3, time.time()) is Life.UNKNOWN, "another attempt"


def test_a_process_of_this_machine_that_is_gone_is_dead(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys; from services.trainer.records.heartbeat import beat; beat(pathlib.Path(sys.argv[1]), 1)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert life_of(last_beat(tmp_path), 1, time.time()) is Life.DEAD


def test_a_process_with_the_same_number_is_another_one(tmp_path: Path) -> None:
    beat(tmp_path, 1)
    found = last_beat(tmp_path)
    assert found is not None
    assert life_of(dataclasses.replace(found, started=found.started - 60), 1, time.time()) is Life.DEAD


def test_of_a_process_elsewhere_it_is_known_for_a_while_only(tmp_path: Path) -> None:
    beat(tmp_path, 1)
    found = last_beat(tmp_path)
    assert found is not None
    elsewhere = dataclasses.replace(found, place="another machine", pid=1)
    assert life_of(elsewhere, 1, elsewhere.time + FRESH_SECONDS - 1) is Life.ALIVE
    assert life_of(elsewhere, 1, elsewhere.time + FRESH_SECONDS + 1) is Life.UNKNOWN


def test_a_file_that_nobody_can_read_is_no_sign(tmp_path: Path) -> None:
    beat(tmp_path, 1)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    for size in range(len(whole)):
        file.write_bytes(whole[:size])
        assert last_beat(tmp_path) is None


def test_signs_are_given_until_the_end(tmp_path: Path) -> None:
    ended = threading.Event()
    keep_beating(tmp_path, 1, ended)
    deadline = time.monotonic() + 20
    while last_beat(tmp_path) is None:
        assert time.monotonic() < deadline
    ended.set()
