"""Supervisor's configuration, read back by supervisor itself, and a supervisor that does not answer."""

from __future__ import annotations

import shlex
import socket
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from supervisor.options import ServerOptions

from deploy import layout, supervision
from deploy.health import Answer
from deploy.own_settings import own_settings
from deploy.programs import Program
from steersman.errors import FailedPreconditionError, UnavailableError
from steersman.settings import Settings
from tests import odd_names

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), max_size=30)


ENVIRONMENT = {"OMP_NUM_THREADS": "1", "STEERSMAN_MLFLOW_URL": "http://127.0.0.1:5000/a%20b,c"}


def program(*command: str) -> Program:
    return Program("web", command, "", {}, probe=lambda: Answer.NOT_READY, environment=ENVIRONMENT)


def read_back(configuration: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> ServerOptions:
    """Lets supervisor read a configuration, in the folder in which it would run."""
    (folder / "supervisor").mkdir(parents=True)
    monkeypatch.chdir(folder)
    (folder / "logs").mkdir()
    (folder / "supervisor" / "supervisord.conf").write_text(configuration)
    options = ServerOptions()
    options.realize(["-c", "supervisor/supervisord.conf"])
    return options


@given(words=st.lists(WORDS | odd_names.NAMES.filter(lambda name: not {"\n", "\r"} & set(name)), min_size=1))
def test_supervisor_reads_the_words_of_every_command(words: list[str]) -> None:
    settings = Settings(var_dir=Path("/nowhere"))
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        options = read_back(supervision.configuration(settings, [program(*words)], ""), Path(folder), patch)

        (group,) = options.process_group_configs
        (process,) = group.process_configs
        assert shlex.split(process.command) == words
        assert process.environment == ENVIRONMENT


@pytest.mark.parametrize("kind", odd_names.KINDS)
def test_supervisor_finds_its_files_below_the_folder(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / odd_names.KINDS[kind]
    settings = Settings(var_dir=folder)
    monkeypatch.setattr(tempfile, "tempdir", f"{tmp_path}/100%")  # which supervisor would expand

    options = read_back(supervision.configuration(settings, [program("web")], ""), folder, monkeypatch)

    (process,) = options.process_group_configs[0].process_configs
    assert (folder / process.stdout_logfile) == layout.log_file(settings, "web")
    assert Path(options.logfile) == layout.log_file(settings, "supervisor")
    assert Path(options.pidfile) == folder / "supervisor" / "supervisord.pid"
    assert options.server_configs[0]["file"] == str(layout.supervisor_socket(settings))


def test_a_command_with_a_line_break_is_refused() -> None:
    with pytest.raises(FailedPreconditionError, match="without line breaks"):
        supervision.configuration(Settings(var_dir=Path("/nowhere")), [program("a\nb")], "")


def test_a_supervisor_that_is_silent_is_named(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "_ANSWER_SECONDS", 0.5)
    settings = own_settings(short_folder / "silent")
    layout.make_folders(settings)
    path = layout.supervisor_socket(settings)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        with pytest.raises(UnavailableError, match=f"unix:{path} .* silent.*make down"):
            supervision.connect(settings)


def test_a_socket_that_is_left_over_is_no_supervisor(short_folder: Path) -> None:
    settings = own_settings(short_folder / "left-over")
    layout.make_folders(settings)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(layout.supervisor_socket(settings)))

    assert supervision.connect(settings) is None
