from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from services.evaluator.workers.user_code import unpack_code
from services.trainer.cluster.packed_code import pack
from steersman.errors import InvalidArgumentError
from steersman.v1.trainer_pb2 import Code, RunSpec
from tests import odd_names


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    for name in ("boat/__init__.py", "boat/__pycache__/x.pyc", ".git/config", "data/map.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def packed(kept: Path, **code: str | list[str]) -> Code:
    return pack(RunSpec(code=Code(**code)), kept).code  # type: ignore[arg-type] # by name


def names(package: str) -> set[str]:
    return set(zipfile.ZipFile(package).namelist())


def test_a_working_folder_is_packed_without_what_nobody_needs(project: Path, tmp_path: Path) -> None:
    code = packed(tmp_path / "kept", working_dir=str(project))
    assert names(code.working_dir) == {"boat/__init__.py", "data/map.txt"}
    assert Path(code.working_dir).parent == tmp_path / "kept"


def test_a_package_keeps_its_name(project: Path, tmp_path: Path) -> None:
    code = packed(tmp_path / "kept", py_modules=[str(project / "boat")])
    assert names(code.py_modules[0]) == {"boat/__init__.py"}


def test_the_same_files_are_the_same_package(project: Path, tmp_path: Path) -> None:
    first = packed(tmp_path / "kept", working_dir=str(project)).working_dir
    (project / "data" / "map.txt").touch()
    assert packed(tmp_path / "kept", working_dir=str(project)).working_dir == first
    (project / "data" / "map.txt").write_text("another")
    assert packed(tmp_path / "kept", working_dir=str(project)).working_dir != first
    assert len(list((tmp_path / "kept").glob("*.zip"))) == 2


def test_what_was_packed_is_packed_again_to_the_same(project: Path, tmp_path: Path) -> None:
    once = packed(tmp_path / "kept", working_dir=str(project))
    assert packed(tmp_path / "kept", working_dir=once.working_dir) == once


def test_uris_stay_and_nothing_is_nothing(tmp_path: Path) -> None:
    assert packed(tmp_path, working_dir="s3://bucket/code.zip").working_dir == "s3://bucket/code.zip"
    assert not pack(RunSpec(code=Code()), tmp_path).HasField("code")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", odd_names.KINDS)
def test_code_lies_anywhere_and_is_kept_anywhere(kind: str, project: Path, tmp_path: Path) -> None:
    odd, kept = tmp_path / odd_names.KINDS[kind] / "boat", tmp_path / "kept" / odd_names.KINDS[kind]
    odd.parent.mkdir(parents=True)
    project.rename(odd)

    code = packed(kept, working_dir=odd.as_uri(), py_modules=[str(odd / "boat"), f"file://{odd}/boat"])

    assert names(code.working_dir) == {"boat/__init__.py", "data/map.txt"}
    assert [names(package) for package in code.py_modules] == [{"boat/__init__.py"}] * 2
    assert {Path(package).parent for package in (code.working_dir, *code.py_modules)} == {kept}
    # Unpacked for the evaluator, too.
    unpacked = unpack_code(code, kept)
    assert all((Path(folder) / "boat" / "__init__.py").is_file() for folder in (unpacked.working_dir, *unpacked.path))


def test_a_file_whose_name_is_no_text_is_refused(project: Path, tmp_path: Path) -> None:
    (project / os.fsdecode(b"\xff")).touch()
    with pytest.raises(InvalidArgumentError, match=r"names in UTF-8, got b'\\xff'"):
        packed(tmp_path / "kept", working_dir=str(project))


def test_what_is_no_code_is_refused(project: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"expected a folder or a .zip file"):
        packed(tmp_path, working_dir=str(project / "data" / "map.txt"))
    with pytest.raises(InvalidArgumentError, match=r"expected a folder or a .zip file"):
        packed(tmp_path, py_modules=["/no/such/folder"])


def test_steersmans_own_modules_stay_visible(project: Path, tmp_path: Path) -> None:
    (project / "services").mkdir()
    with pytest.raises(InvalidArgumentError, match=r"does not hide Steersman's own modules, got .*'services'"):
        packed(tmp_path, working_dir=str(project))


def linked_project(root: Path, *, loop: bool = False) -> Path:
    """Makes a project whose assets are reached through links, some of which lead nowhere or back."""
    shared, project = root / "shared", root / "project"
    (shared / "maps" / "deep").mkdir(parents=True)
    (shared / "maps" / "small.json").write_text("6")
    (shared / "maps" / "deep" / "large.json").write_text("60")
    (shared / "wind.json").write_text("0.1")
    (project / "empty").mkdir(parents=True)
    (project / "yard.py").write_text("MAP = 'maps/small.json'")
    (project / "straße 1.txt").write_text("gruess")
    (project / ".gitignore").write_text("maps/\n*.json\n")
    (project / "maps").symlink_to(Path("../shared/maps"))
    (project / "wind.json").symlink_to(Path("../shared/wind.json"))
    (project / "dangling").symlink_to(Path("../nowhere"))
    if loop:
        (project / "loop").symlink_to(Path())
        (shared / "maps" / "back").symlink_to(project)
    return project


LINKED = {
    ".gitignore",
    "empty/",
    "maps/deep/large.json",
    "maps/small.json",
    "straße 1.txt",
    "wind.json",
    "yard.py",
}


@pytest.mark.parametrize("loop", [False, True])
def test_what_is_behind_links_comes_along_and_so_do_empty_folders(loop: bool, tmp_path: Path) -> None:
    project = linked_project(tmp_path, loop=loop)
    assert names(packed(tmp_path / "kept", working_dir=str(project)).working_dir) == LINKED
    there = Path(unpack_code(Code(working_dir=str(project)), tmp_path / "kept").working_dir)
    assert (there / "empty").is_dir()
    assert (there / "maps" / "small.json").read_text() == "6"
    assert not (there / "maps").is_symlink()


def test_a_change_behind_a_link_makes_another_package(tmp_path: Path) -> None:
    project = linked_project(tmp_path)
    first = packed(tmp_path / "kept", working_dir=str(project)).working_dir
    assert packed(tmp_path / "kept", working_dir=str(project)).working_dir == first
    (tmp_path / "shared" / "maps" / "small.json").write_text("8")
    assert packed(tmp_path / "kept", working_dir=str(project)).working_dir != first
