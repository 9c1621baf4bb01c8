from __future__ import annotations

from pathlib import Path

import pytest

from services.common.files import write_whole


def test_a_file_is_written_whole_in_the_place_of_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "latest.json"
    write_whole(path, b"old")
    with path.open("rb") as reading:
        write_whole(path, b"new and longer")
        assert reading.read() == b"old", "who reads it has one or the other"
    assert path.read_bytes() == b"new and longer"
    assert [entry.name for entry in tmp_path.iterdir()] == ["latest.json"]


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        write_whole(tmp_path / "taken", b"content")
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken"]
