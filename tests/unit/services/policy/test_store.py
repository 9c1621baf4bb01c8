from pathlib import Path

import pytest

from deploy.free_ports import free_address
from services.policy.store import fetch_bundle
from steersman.errors import InvalidArgumentError, UnavailableError
from tests import odd_names
from tests.bundles import write_linear_bundle


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_a_folder_is_read_where_it_lies(tmp_path: Path, prefix: str) -> None:
    bundle = write_linear_bundle(tmp_path / "bundle")
    assert fetch_bundle(f"{prefix}{tmp_path}/bundle", tmp_path / "cache", "http://nobody") == bundle
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("kind", odd_names.KINDS)
def test_a_folder_may_have_any_name_as_a_path_and_as_a_uri(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / odd_names.KINDS[kind]
    bundle = write_linear_bundle(folder)
    for uri in (str(folder), f"file://{folder}", folder.as_uri()):
        assert fetch_bundle(uri, tmp_path / "cache", "http://nobody") == bundle


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="cannot read"):
        fetch_bundle(str(tmp_path), tmp_path / "cache", "http://nobody")


def test_a_download_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    url = f"http://{free_address()}"
    with pytest.raises(UnavailableError, match="cannot download"):
        fetch_bundle("mlflow-artifacts:/1/abc/artifacts/bundle", tmp_path / "cache", url)
    assert list((tmp_path / "cache").iterdir()) == []
