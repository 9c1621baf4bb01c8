from __future__ import annotations

import socket
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from deploy import layout, processes, stack
from deploy.local import app, status_table
from deploy.own_settings import own_settings
from deploy.stack import Status
from steersman.settings import Settings


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a stack that does not run, in the environment of the command."""
    chosen = own_settings(tmp_path / "var")
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


@pytest.mark.usefixtures("settings")
def test_what_a_misspelt_setting_was_set_to_is_not_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "harbour.toml").write_text('databse_url = "postgresql://me:s3cr3t@host/base"\n')
    monkeypatch.setenv("STEERSMAN_CONFIG", str(tmp_path / "harbour.toml"))

    code, output = run("up")

    assert code == 1
    assert "STEERSMAN_DATABSE_URL" in output
    assert "s3cr3t" not in output


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
    assert not layout.plain_folder(settings).parent.exists()


def test_clean_deletes_a_folder_that_the_stack_made(settings: Settings) -> None:
    layout.make_folders(settings)
    (settings.var_dir / "runs").mkdir()

    assert run("clean") == (0, "")

    assert not settings.var_dir.exists()
    assert run("clean") == (0, "")


def test_clean_leaves_what_was_put_beside_its_own(settings: Settings) -> None:
    layout.make_folders(settings)
    (settings.var_dir / "steersman.db-wal").touch()
    (settings.var_dir / "thesis.tex").touch()

    code, output = run("clean")

    assert (code, output) == (0, f"{settings.var_dir} stays, since it holds other files; delete it yourself.\n")
    assert {path.name for path in settings.var_dir.iterdir()} == {layout.MARKER, "thesis.tex"}


def test_clean_leaves_a_folder_that_had_files_in_it_before(settings: Settings) -> None:
    settings.var_dir.mkdir()
    (settings.var_dir / "thesis.tex").touch()
    layout.make_folders(settings)

    code, output = run("clean")

    assert code == 0
    assert "stays, since it holds other files" in output
    assert {path.name for path in settings.var_dir.iterdir()} >= {"thesis.tex", "logs", "mlflow"}


def test_a_settings_file_that_is_none_is_a_sentence(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "harbour #1.toml"
    file.write_text("var_dir = ")
    for wrong in (str(file), str(tmp_path / "none.toml")):
        monkeypatch.setenv("STEERSMAN_CONFIG", wrong)

        code, output = run("status")

        assert code == 1
        assert output.startswith("error: settings are wrong: ")
        assert "Traceback" not in output
    assert not settings.var_dir.exists()


def test_status_says_which_program_is_silent(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = Status("gateway", settings.gateway_address, "silent", 4242, 1.0, 2**20)
    monkeypatch.setattr(stack, "status", lambda _: [silent])

    code, output = run("status")

    assert code == 1
    assert f"gateway at {settings.gateway_address} takes connections and has not answered within 3 s" in output


@pytest.mark.parametrize("command", ["up", "down", "clean", "status", "logs"])
def test_help_explains_each_command(command: str) -> None:
    code, output = run(command, "--help")

    assert code == 0
    assert len(output.split()) > 10


def test_the_table_shows_what_one_wants_to_know() -> None:
    console = Console(width=120, record=True)
    console.print(status_table([Status("gateway", "127.0.0.1:50051", "ready", 4242, 3725.0, 100 * 2**20)]))

    for part in ("gateway", "ready", "127.0.0.1:50051", "4242", "1:02:05", "100 MiB"):
        assert part in console.export_text(clear=False)
