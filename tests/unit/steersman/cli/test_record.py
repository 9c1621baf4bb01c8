from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

from pyarrow import parquet

from tests import endless
from tests.command_line import CommandLine


def test_random_episodes_are_recorded_once(steersman: CommandLine, tmp_path: Path) -> None:
    recorded = steersman("record", "CartPole-v1", str(tmp_path / "set"), "--episodes", "3", "--json")
    assert recorded.exit_code == 0, recorded.errors
    told = json.loads(recorded.output)
    assert told["episodes"] == 3
    assert told["steps"] == 3 * told["mean_return"]
    assert Path(told["file"]).exists()

    again = steersman("record", "CartPole-v1", str(tmp_path / "set"))
    assert again.exit_code != 0
    assert "without recordings" in again.errors


def test_unknown_environments_are_refused(steersman: CommandLine, tmp_path: Path) -> None:
    refused = steersman("record", "CartPole-v9", str(tmp_path / "set"))
    assert refused.exit_code != 0
    assert "CartPole" in refused.errors
    assert not list(tmp_path.rglob("*.parquet"))


def test_episodes_without_an_end_are_cut_and_recorded_as_truncated(steersman: CommandLine, tmp_path: Path) -> None:
    corridor = f"{endless.__name__}:Marathon-v0"
    recorded = steersman("record", corridor, str(tmp_path), "--episodes", "2", "--longest-episode", "30", "--json")
    assert recorded.exit_code == 0, recorded.errors
    told = json.loads(recorded.output)
    assert (told["episodes"], told["steps"], told["cut"]) == (2, 60, 2)
    assert "2 of the episodes had not ended" in recorded.errors
    rows = parquet.read_table(told["file"]).to_pylist()
    assert [row["t"] for row in rows if row["truncateds"]] == [29, 29]
    assert not any(row["terminateds"] for row in rows)


def test_a_recording_that_is_ended_leaves_what_it_has(steersman: CommandLine, tmp_path: Path) -> None:
    """In the middle of episodes that would never end; by the time, which Ctrl-C shares its way with."""
    endless_one = (f"{endless.__name__}:Marathon-v0", str(tmp_path), "--environment-set", "length=1000000000")
    recorded = steersman("record", *endless_one, "--episodes", "40", "--longest-seconds", "0.2", "--json")
    assert recorded.exit_code == 0, recorded.errors
    told = json.loads(recorded.output)
    assert told["episodes"] == told["cut"] == 32, "one in each environment"
    assert told["steps"] == len(parquet.read_table(told["file"]))
    assert "ended after 32 of 40 episodes" in recorded.errors
    assert [path.name for path in tmp_path.iterdir()] == ["episodes.parquet"]


def test_ctrl_c_ends_a_recording_with_what_it_has(tmp_path: Path) -> None:
    code = f"from tests import {endless.__name__.removeprefix('tests.')}; from steersman.cli import main; main()"
    program = [sys.executable, "-c", code, "record", "Marathon-v0", str(tmp_path), "--episodes", "1"]
    program += ["--environment-set", "length=1000000000", "--longest-episode", "1000000000"]
    with subprocess.Popen(program, stderr=subprocess.PIPE, text=True) as process:
        while not (tmp_path / "episodes.part").exists():
            assert process.poll() is None, process.communicate()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    (row, *_) = parquet.read_table(tmp_path / "episodes.parquet").to_pylist()
    assert row["t"] == 0
