import json
from pathlib import Path

import pytest

from services.common import bundle
from steersman.errors import InvalidArgumentError
from tests.bundles import write_linear_bundle


def test_what_was_written_is_read(tmp_path: Path) -> None:
    written = write_linear_bundle(tmp_path)
    assert bundle.read_bundle(tmp_path) == written
    assert len(written.spec.model_sha256) == 64


def _edit_manifest(folder: Path, **changes: object) -> None:
    path = folder / bundle.MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_an_edited_model_is_refused(tmp_path: Path) -> None:
    model = write_linear_bundle(tmp_path).model_path
    model.write_bytes(model.read_bytes() + b"\0")
    with pytest.raises(InvalidArgumentError, match="expected SHA-256"):
        bundle.read_bundle(tmp_path)


def test_other_formats_are_refused(tmp_path: Path) -> None:
    write_linear_bundle(tmp_path)
    _edit_manifest(tmp_path, format=99)
    with pytest.raises(InvalidArgumentError, match=r"expected a bundle of format 1.*got 99"):
        bundle.read_bundle(tmp_path)


@pytest.mark.parametrize("spec", [None, 3, {"no_such_field": 1}, {"model_sha256": 5}])
def test_a_spec_that_is_none_is_refused(tmp_path: Path, spec: object) -> None:
    write_linear_bundle(tmp_path)
    _edit_manifest(tmp_path, spec=spec)
    with pytest.raises(InvalidArgumentError):
        bundle.read_bundle(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    write_linear_bundle(tmp_path)
    (tmp_path / bundle.MANIFEST).write_text(text)
    with pytest.raises(InvalidArgumentError):
        bundle.read_bundle(tmp_path)


@pytest.mark.parametrize("name", [bundle.MANIFEST, bundle.MODEL])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    write_linear_bundle(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(InvalidArgumentError, match=name):
        bundle.read_bundle(tmp_path)


def test_an_oversized_manifest_is_not_read(tmp_path: Path) -> None:
    write_linear_bundle(tmp_path)
    (tmp_path / bundle.MANIFEST).write_bytes(b" " * (bundle.MAX_MANIFEST_BYTES + 1))
    with pytest.raises(InvalidArgumentError, match="expected at most"):
        bundle.read_bundle(tmp_path)
