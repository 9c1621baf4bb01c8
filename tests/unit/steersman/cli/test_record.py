from __future__ import annotations

import json
from pathlib import Path

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
