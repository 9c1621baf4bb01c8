from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.local_path import local_path
from tests import odd_names


@given(names=st.lists(odd_names.NAMES, min_size=1, max_size=3))
def test_a_path_and_its_uri_are_the_same(names: list[str]) -> None:
    path = Path("/", *names)

    assert local_path(str(path)) == path
    assert local_path(path.as_uri()) == path


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("file:///a%20b", "/a b"),
        ("file://localhost/a%20b", "/a b"),
        ("file:/a%20b", "/a b"),
        ("FILE:///a", "/a"),
        ("/a%20b", "/a%20b"),
        ("file", "file"),
        ("a/b", "a/b"),
        ("C: drive/a", "C: drive/a"),
    ],
)
def test_what_is_local(given: str, path: str) -> None:
    assert local_path(given) == Path(path)


@pytest.mark.parametrize(
    "given", ["s3://bucket/a", "http://127.0.0.1/a", "mlflow-artifacts:/1/a", "file://host/a", "file:a", "runs:/1/a"]
)
def test_what_is_not(given: str) -> None:
    assert local_path(given) is None


def test_a_uri_made_by_hand_is_the_path_as_it_is_written_where_only_that_exists(tmp_path: Path) -> None:
    by_hand = tmp_path / "100%20done #1?"
    by_hand.touch()

    assert local_path(f"file://{by_hand}") == by_hand

    standard = tmp_path / "100 done #1?"
    standard.touch()
    assert local_path(f"file://{by_hand}") == standard
    assert local_path(by_hand.as_uri()) == by_hand
