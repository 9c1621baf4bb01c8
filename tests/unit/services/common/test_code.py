from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from services.common.code import kept_code, pack_code
from steersman.errors import InvalidArgumentError
from steersman.v1.trainer_pb2 import Code


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "boat").mkdir(parents=True)
    (folder / "boat" / "__init__.py").write_text("depth = 3")
    (folder / "map.txt").write_text("here")
    return folder


def digest(kept: Path, **code: str | list[str]) -> str:
    return pack_code(Code(**code), kept).sha256  # type: ignore[arg-type] # by name


def test_a_digest_is_of_names_and_contents(project: Path, tmp_path: Path) -> None:
    first = digest(tmp_path / "kept", working_dir=str(project))
    assert len(first) == 64
    (project / "map.txt").chmod(0o755)
    with zipfile.ZipFile(tmp_path / "by_hand.zip", "w") as archive:
        archive.mkdir("boat")
        for name in ("map.txt", "boat/__init__.py"):
            archive.write(project / name, name)
    assert digest(tmp_path / "kept", working_dir=str(project)) == first
    assert digest(tmp_path / "elsewhere", working_dir=str(tmp_path / "by_hand.zip")) == first
    (project / "map.txt").write_text("there")
    assert digest(tmp_path / "kept", working_dir=str(project)) != first


def test_what_code_is_there_for_makes_a_difference(project: Path, tmp_path: Path) -> None:
    digests = {
        digest(tmp_path / "kept", working_dir=str(project)),
        digest(tmp_path / "kept", py_modules=[str(project / "boat")]),
        digest(tmp_path / "kept", working_dir=str(project), py_modules=[str(project / "boat")]),
        digest(tmp_path / "kept", working_dir="https://example.org/code.zip"),
        digest(tmp_path / "kept", working_dir="https://example.org/other.zip"),
    }
    assert len(digests) == 5


def test_code_is_found_again_by_its_digest(project: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    packed = pack_code(Code(working_dir=str(project), py_modules=[str(project / "boat")]), kept)
    assert kept_code(packed.sha256, (tmp_path / "nowhere", kept)) == packed
    assert kept_code("0" * 64, (kept,)) is None
    Path(packed.working_dir).unlink()
    assert kept_code(packed.sha256, (kept,)) is None, "a package of it is gone"


def test_what_a_uri_names_may_change_and_is_not_found(tmp_path: Path) -> None:
    packed = pack_code(Code(working_dir="https://example.org/code.zip"), tmp_path)
    assert kept_code(packed.sha256, (tmp_path,)) is None


def test_a_package_that_cannot_be_read_is_refused(tmp_path: Path, project: Path) -> None:
    package = Path(pack_code(Code(working_dir=str(project)), tmp_path / "kept").working_dir)
    content = bytearray(package.read_bytes())
    content[60:64] = bytes(255 - byte for byte in content[60:64])
    (tmp_path / "bad.zip").write_bytes(content)
    with pytest.raises(InvalidArgumentError, match="cannot unpack the code"):
        pack_code(Code(working_dir=str(tmp_path / "bad.zip")), tmp_path / "kept")
