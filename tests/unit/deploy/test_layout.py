from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy import layout
from steersman.errors import FailedPreconditionError
from steersman.settings import Settings

LONG = "a-folder-whose-name-is-much-longer-than-what-a-unix-socket-may-have-" * 2


def test_a_short_var_dir_holds_everything(short_folder: Path) -> None:
    settings = Settings(var_dir=short_folder / "short")

    assert layout.ray_folder(settings) == short_folder / "short" / "ray"
    assert layout.supervisor_socket(settings).parent == short_folder / "short" / "supervisor"


def test_sockets_of_a_long_var_dir_go_to_a_private_folder(
    short_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(short_folder))
    settings = Settings(var_dir=tmp_path / LONG)

    folder = layout.ray_folder(settings)

    assert folder.is_dir()
    assert folder.parent.parent == short_folder
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
    assert folder == layout.ray_folder(settings)
    assert layout.supervisor_socket(settings).parent.parent == folder.parent


def test_a_folder_that_others_can_enter_is_refused(
    short_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(short_folder))
    settings = Settings(var_dir=tmp_path / LONG / "other")
    layout.ray_folder(settings).parent.chmod(0o755)

    with pytest.raises(FailedPreconditionError, match="mode 0700"):
        layout.ray_folder(settings)


@given(name=st.text("abcdefghij", min_size=1, max_size=200))
def test_socket_paths_are_never_too_long(name: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "mkdir", lambda *_, **__: None)
        patch.setattr(layout, "_make_private", lambda _: None)
        settings = Settings(var_dir=Path("/") / name)

        assert len(str(layout.supervisor_socket(settings))) <= 107
        longest = "session_2026-11-23_04-13-10_362206_4194304/sockets/plasma_store.1"
        assert len(str(layout.ray_folder(settings) / longest)) <= 107


def test_paths_become_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)

    settings = layout.absolute(Settings())

    assert settings.var_dir == tmp_path / "var"
    assert settings.ray_token_file == tmp_path / "var" / "ray" / "auth_token"
