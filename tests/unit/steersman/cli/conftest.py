import pytest
from rich.console import Console

from steersman.cli import output
from tests.command_line import steersman

__all__ = ["steersman", "terminal"]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes standard error a terminal, on which live views show."""
    console = Console(stderr=True, force_terminal=True, color_system=None, width=200)
    monkeypatch.setattr(output, "progress_console", console)
