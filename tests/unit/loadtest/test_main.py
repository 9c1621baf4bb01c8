from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from loadtest.__main__ import app
from loadtest.objectives import NAMES
from loadtest.scenarios import SCENARIOS

_WIDE = {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--scenario", "storm"], "got 'storm'"),
        (["--scenario", "chaos", "--host", "127.0.0.1:1"], "expected no --host for chaos"),
    ],
)
def test_what_cannot_be_run_is_refused(arguments: list[str], expected: str) -> None:
    found = CliRunner().invoke(app, ["run", *arguments], env=_WIDE)
    assert found.exit_code == 2
    assert expected in found.output


def test_help_names_every_scenario() -> None:
    found = CliRunner().invoke(app, ["run", "--help"], env=_WIDE)
    assert found.exit_code == 0
    assert all(name in found.output for name in SCENARIOS)


def test_the_documentation_names_every_scenario_and_objective() -> None:
    text = (Path(__file__).parents[3] / "docs" / "load-testing.md").read_text()
    assert all(f"`{name}`" in text for name in (*SCENARIOS, *NAMES))
