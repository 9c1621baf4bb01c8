from __future__ import annotations

import socket
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from deploy import processes
from deploy.local import app, status_table
from deploy.own_settings import own_settings
from deploy.stack import Status
from steersman.settings import Settings


@pytest.fixture
def settings(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a stack that does not run, in the environment of the command."""
    chosen = own_settings(short_folder / "local")
    for name, value in chosen.model_dump(mode="json", exclude_none=True).items():
        monkeypatch.setenv(f"STEERSMAN_{name.upper()}", str(value))
    return chosen


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    return result.exit_code, result.output


@pytest.mark.usefixtures("settings")
def test_status_of_nothing_is_stopped_and_an_error() -> None:
    code, output = run("status")

    assert code == 1
    for program in ("ray", "mlflow", "gateway", "trainer", "evaluator"):
        assert program in output
    assert output.count("stopped") == 5


@pytest.mark.usefixtures("settings")
def test_down_of_nothing_is_harmless() -> None:
    assert run("down") == (0, "Nothing was running.\n")


@pytest.mark.usefixtures("settings")
def test_logs_of_nothing_say_how_to_get_some() -> None:
    code, output = run("logs")

    assert code == 1
    assert "make up" in output


@pytest.mark.usefixtures("settings")
def test_logs_of_an_unknown_program_name_the_known_ones() -> None:
    code, output = run("logs", "navigator")

    assert code == 1
    assert "ray, mlflow, gateway, trainer, evaluator, supervisor" in output
    assert "'navigator'" in output


@pytest.mark.usefixtures("settings")
def test_a_wrong_setting_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEERSMAN_MAX_BATCH_SIZE", "many")

    code, output = run("up")

    assert code == 1
    assert "STEERSMAN_MAX_BATCH_SIZE" in output
    assert "'many'" in output
    assert "Traceback" not in output


def test_up_names_a_busy_port_before_anything_starts(settings: Settings) -> None:
    with socket.socket() as server:
        host, port = settings.trainer_address.split(":")
        server.bind((host, int(port)))
        server.listen()

        code, output = run("up")

    assert code == 1
    assert settings.trainer_address in output
    assert "STEERSMAN_TRAINER_ADDRESS" in output
    assert processes.members(settings) == set()


@pytest.mark.parametrize("command", ["up", "down", "status", "logs"])
def test_help_explains_each_command(command: str) -> None:
    code, output = run(command, "--help")

    assert code == 0
    assert len(output.split()) > 10


def test_the_table_shows_what_one_wants_to_know() -> None:
    console = Console(width=120, record=True)
    console.print(status_table([Status("gateway", "127.0.0.1:50051", "ready", 4242, 3725.0, 100 * 2**20)]))

    for part in ("gateway", "ready", "127.0.0.1:50051", "4242", "1:02:05", "100 MiB"):
        assert part in console.export_text(clear=False)
