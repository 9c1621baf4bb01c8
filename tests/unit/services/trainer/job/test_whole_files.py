"""Files that Tune writes, of a process that may be killed at any byte."""

from __future__ import annotations

import pickle
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.fs
import pytest

from services.trainer.job.whole_files import whole_files

_WRITES_FOR_EVER = """
import itertools, sys
from services.trainer.job.whole_files import whole_files

files = whole_files()
for letter in itertools.cycle((b"a", b"b")):
    with files.open_output_stream(sys.argv[1]) as stream:
        for _ in range(200):
            stream.write(letter * 1000)
"""


@pytest.mark.parametrize("after_seconds", [0.0, 0.003, 0.007, 0.02])
def test_a_kill_leaves_a_file_whole(after_seconds: float, tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    process = subprocess.Popen([sys.executable, "-c", _WRITES_FOR_EVER, str(state)])
    try:
        deadline = time.monotonic() + 60
        while not state.exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.001)
        time.sleep(after_seconds)
    finally:
        process.kill()
        process.wait()

    assert state.read_bytes() in {letter * 200_000 for letter in (b"a", b"b")}


def test_folders_are_copied_there_and_back(tmp_path: Path) -> None:
    """As Tune does with checkpoints, also in the processes of its trials."""
    source = tmp_path / "source"
    (source / "inner").mkdir(parents=True)
    (source / "inner" / "state.pkl").write_bytes(bytes(range(256)) * 1000)
    files = pickle.loads(pickle.dumps(whole_files()))  # noqa: S301 - ours

    stored = tmp_path / "far" / "stored"
    pyarrow.fs.copy_files(str(source), str(stored), destination_filesystem=files)
    pyarrow.fs.copy_files(str(stored), str(tmp_path / "back"), source_filesystem=files)

    assert (tmp_path / "back/inner/state.pkl").read_bytes() == (source / "inner/state.pkl").read_bytes()
    assert [path.name for path in (stored / "inner").iterdir()] == ["state.pkl"]


def test_a_stream_that_is_given_up_leaves_what_was_there(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    state.write_text("before")
    stream = whole_files().open_output_stream(str(state))
    stream.write(b"aft")
    del stream
    assert state.read_text() == "before"
    assert list(tmp_path.iterdir()) == [state]
