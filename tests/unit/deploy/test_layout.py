from __future__ import annotations

import contextlib
import os
import re
import socket
import stat
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given

from deploy import layout
from steersman.errors import FailedPreconditionError
from steersman.settings import Settings
from tests import odd_names


@pytest.fixture
def prepared() -> Iterator[Callable[[Settings], Settings]]:
    """Prepares folders, and removes the links afterwards."""
    with contextlib.ExitStack() as stack:

        def prepare(settings: Settings) -> Settings:
            settings = layout.absolute(settings)
            stack.callback(layout.remove_links, settings)
            layout.make_folders(settings)
            layout.make_links(settings)
            return settings

        yield prepare


def test_a_short_and_plain_var_dir_needs_no_link(short_folder: Path) -> None:
    settings = Settings(var_dir=short_folder / "short")

    assert layout.ray_folder(settings) == short_folder / "short" / "ray" / "run"
    assert layout.supervisor_socket(settings).parent == short_folder / "short" / "supervisor"


@pytest.mark.parametrize("kind", odd_names.KINDS)
def test_every_other_var_dir_has_a_short_and_plain_link_to_it(
    kind: str, tmp_path: Path, prepared: Callable[[Settings], Settings]
) -> None:
    settings = prepared(Settings(var_dir=tmp_path / odd_names.KINDS[kind]))

    plain = layout.plain_folder(settings)

    assert re.fullmatch(r"[A-Za-z0-9/._+-]{1,31}", str(plain))
    assert plain.resolve() == settings.var_dir
    assert stat.S_IMODE(plain.parent.stat().st_mode) == 0o700
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(layout.ray_folder(settings) / "session_2026-11-23_04-13-10_362206_4194304_plasma_store"))
    assert sorted(path.name for path in (settings.var_dir / "ray" / "run").iterdir()) == [
        "session_2026-11-23_04-13-10_362206_4194304_plasma_store"
    ]

    layout.remove_links(settings)

    assert not plain.parent.exists()


@pytest.mark.parametrize("kind", [kind for kind in odd_names.KINDS if kind not in {"colon", "line", "long"}])
def test_ray_gets_a_plain_path_of_this_python(
    kind: str, tmp_path: Path, prepared: Callable[[Settings], Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / odd_names.KINDS[kind]
    venv.create(folder, with_pip=False, symlinks=True)
    monkeypatch.setattr(sys, "prefix", str(folder))
    monkeypatch.setattr(sys, "executable", str(folder / "bin" / "python"))
    settings = prepared(Settings(var_dir=tmp_path / "a b"))

    python = layout.ray_python(settings)
    shown = subprocess.run([python, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True, check=True)

    assert Path(shown.stdout.strip()).resolve() == folder
    assert re.fullmatch(r"[A-Za-z0-9/._+-]+", shown.stdout.strip())

    monkeypatch.undo()  # whoever stops the stack may do so with another Python
    layout.remove_links(settings)

    assert not Path(shown.stdout.strip()).parent.exists()


def test_ray_gets_this_very_python_where_it_reads_its_path(tmp_path: Path) -> None:
    assert layout.ray_python(Settings(var_dir=tmp_path)) == sys.executable


@given(name=odd_names.NAMES)
def test_socket_paths_are_never_too_long_nor_odd(name: str) -> None:
    settings = Settings(var_dir=Path("/nowhere") / name)

    longest = "session_2026-11-23_04-13-10_362206_4194304/sockets/plasma_store.1"
    for path in (layout.supervisor_socket(settings), layout.ray_folder(settings) / longest):
        assert len(os.fsencode(path)) <= 107
        assert path.as_posix().isascii()
        assert path.as_posix().isprintable()


def test_a_folder_of_links_that_others_can_enter_is_refused(
    tmp_path: Path, prepared: Callable[[Settings], Settings]
) -> None:
    settings = prepared(Settings(var_dir=tmp_path / odd_names.KINDS["space"]))
    layout.plain_folder(settings).parent.chmod(0o755)

    with pytest.raises(FailedPreconditionError, match="mode 0700"):
        layout.make_links(settings)


def test_folders_are_made_for_this_user_alone(tmp_path: Path, prepared: Callable[[Settings], Settings]) -> None:
    settings = prepared(Settings(var_dir=tmp_path / "var"))

    folders = [path for path in settings.var_dir.iterdir() if path.is_dir()]
    assert {path.name for path in folders} >= {"supervisor", "logs", "ray", "tmp"}
    for folder in (settings.var_dir, *folders):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder


def test_in_a_folder_that_others_can_enter_what_the_stack_makes_is_private(
    tmp_path: Path, prepared: Callable[[Settings], Settings]
) -> None:
    shared = tmp_path / "var"
    shared.mkdir(mode=0o755)
    (shared / "ray").mkdir(mode=0o777)

    prepared(Settings(var_dir=shared))

    assert stat.S_IMODE(shared.stat().st_mode) == 0o755
    assert {stat.S_IMODE(path.stat().st_mode) for path in shared.iterdir()} == {0o700}


@pytest.mark.parametrize(
    ("var_dir", "reason"),
    [("file", "Not a directory"), ("file/var", "Not a directory"), ("x" * 256, "File name too long")],
)
def test_a_folder_that_cannot_be_used_is_refused_in_a_sentence(var_dir: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(FailedPreconditionError, match=f"{reason}.*STEERSMAN_VAR_DIR"):
        layout.make_folders(Settings(var_dir=tmp_path / var_dir))


def test_what_ray_would_replace_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(FailedPreconditionError, match=r"without \$\{HOME\}, which Ray replaces.*STEERSMAN_VAR_DIR"):
        layout.make_folders(Settings(var_dir=tmp_path / "a${HOME}b"))

    assert list(tmp_path.iterdir()) == []


def test_a_read_only_folder_is_refused_in_a_sentence() -> None:
    # Nobody can make a folder there, root included.
    with pytest.raises(FailedPreconditionError, match=r"/proc/steersman.*STEERSMAN_VAR_DIR"):
        layout.make_folders(Settings(var_dir=Path("/proc/steersman")))


def test_a_file_system_without_sockets_is_refused_in_a_sentence() -> None:
    with pytest.raises(FailedPreconditionError, match=r"Unix sockets.*/proc/self.*STEERSMAN_VAR_DIR"):
        layout.check_sockets(Path("/proc/self"))


def test_paths_become_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)

    settings = layout.absolute(Settings(state_key_path=Path("key")))

    assert settings.var_dir == tmp_path / "var"
    assert settings.ray_token_file == tmp_path / "var" / "ray" / "auth_token"
    # Each program runs in `var_dir`.
    assert settings.state_key_path == tmp_path / "key"
