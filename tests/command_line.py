"""Runs the command line as a user does, but in this process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from steersman.cli import main
from steersman.settings import settings


@dataclass(frozen=True)
class Result:
    """What a command printed, and its exit code."""

    exit_code: int
    output: str
    errors: str


class CommandLine:
    """The command line with settings of the test's own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def configure(self, **values: str) -> None:
        """Sets settings by their names."""
        for name, value in values.items():
            self._monkeypatch.setenv(f"STEERSMAN_{name.upper()}", value)
        settings.cache_clear()

    def __call__(self, *arguments: str) -> Result:
        """Runs a command."""
        self._monkeypatch.setattr(sys, "argv", ["steersman", *arguments])
        try:
            main()
            exit_code = 0
        except SystemExit as end:
            exit_code = end.code if isinstance(end.code, int) else 0
        captured = self._capsys.readouterr()
        return Result(exit_code, captured.out, captured.err)


@pytest.fixture
def steersman(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[CommandLine]:
    """The command line, with the settings of the process as they were before, afterwards."""
    monkeypatch.setenv("COLUMNS", "200")
    settings.cache_clear()
    yield CommandLine(monkeypatch, capsys)
    settings.cache_clear()
