import shutil
import zipfile
from pathlib import Path

import pytest

from services.evaluator.workers.user_code import unpack_code
from steersman.errors import InvalidArgumentError
from steersman.v1.trainer_pb2 import Code


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "boat").mkdir(parents=True)
    (folder / "boat" / "__init__.py").write_text("SAIL = 1")
    return folder


def test_a_copy_outlives_the_folder(project: Path, tmp_path: Path) -> None:
    code = unpack_code(Code(working_dir=str(project), py_modules=[str(project / "boat")]), tmp_path / "kept")
    shutil.rmtree(project)
    for folder in (code.working_dir, *code.path):
        assert (Path(folder) / "boat" / "__init__.py").read_text() == "SAIL = 1"


def test_what_changes_is_another_copy(project: Path, tmp_path: Path) -> None:
    first = unpack_code(Code(working_dir=str(project)), tmp_path / "kept")
    assert unpack_code(Code(working_dir=str(project)), tmp_path / "kept") == first
    (project / "boat" / "__init__.py").write_text("SAIL = 2")
    second = unpack_code(Code(working_dir=str(project)), tmp_path / "kept")
    assert second != first
    assert (Path(first.working_dir) / "boat" / "__init__.py").read_text() == "SAIL = 1"


def test_a_uri_is_fetched(project: Path, tmp_path: Path) -> None:
    package = tmp_path / "boat.zip"
    with zipfile.ZipFile(package, "w") as archive:
        archive.write(project / "boat" / "__init__.py", "boat/__init__.py")
    code = unpack_code(Code(py_modules=[package.as_uri()]), tmp_path / "kept")
    assert (Path(code.path[0]) / "boat" / "__init__.py").read_text() == "SAIL = 1"


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("s3://bucket/code.zip", "to begin with file, http, https, got 's3://bucket/code.zip'"),
        ("file:///no/such/code.zip", "expected a folder or a .zip file"),
        (Path(__file__).as_uri(), "expected a folder or a .zip file"),
        ("http://127.0.0.1:9/code.zip", "cannot fetch the code"),
    ],
)
def test_what_is_no_code_is_refused(tmp_path: Path, uri: str, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        unpack_code(Code(working_dir=uri), tmp_path / "kept")
