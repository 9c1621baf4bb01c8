from __future__ import annotations

from pathlib import Path

import pytest

from services.policy.arguments import read_arguments
from tests import odd_names
from tests.bundles import write_linear_bundle


@pytest.mark.parametrize("kind", odd_names.KINDS)
def test_bundles_lie_in_folders_of_any_name(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / odd_names.KINDS[kind] / "lr=0.1"
    folder.mkdir(parents=True)

    assert read_arguments([f"boat={folder}", f"boat:7={folder.as_uri()}", f"boat=file://{folder}"]) == {
        "boat": {1: folder, 7: folder, 8: folder}
    }


def test_a_folder_with_an_equals_sign_is_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_linear_bundle(tmp_path / "lr=0.1")
    monkeypatch.chdir(tmp_path)

    (folders,) = read_arguments(["lr=0.1"]).values()

    assert folders == {1: tmp_path / "lr=0.1"}
