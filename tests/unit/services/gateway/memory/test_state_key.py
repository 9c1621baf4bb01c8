import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from services.gateway.memory.state_key import read_state_key

RACERS = 8


def test_a_key_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "var" / "state.key"
    key = read_state_key(path)
    assert len(key) == 32
    assert read_state_key(path) == key
    assert read_state_key(tmp_path / "another.key") != key


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "state.key"
    previous = os.umask(0)
    try:
        read_state_key(path)
    finally:
        os.umask(previous)
    assert path.stat().st_mode & 0o777 == 0o600


def test_nothing_else_is_left_behind(tmp_path: Path) -> None:
    read_state_key(tmp_path / "state.key")
    assert [path.name for path in tmp_path.iterdir()] == ["state.key"]


# One race may be won in order by chance; several are not.
@pytest.mark.parametrize("race", range(20))
def test_all_who_start_at_once_get_one_key(tmp_path: Path, race: int) -> None:
    path = tmp_path / f"state-{race}.key"
    barrier = Barrier(RACERS)

    def start(_: int) -> bytes:
        barrier.wait()
        return read_state_key(path)

    with ThreadPoolExecutor(RACERS) as racers:
        keys = set(racers.map(start, range(RACERS)))
    assert keys == {path.read_bytes()}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_file_that_holds_something_else_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "state.key"
    path.write_bytes(bytes(length))
    with pytest.raises(ValueError, match=f"expected a key of 32 bytes .* got {length} bytes"):
        read_state_key(path)
    assert len(path.read_bytes()) == length, "it may be somebody's; it is not written over"
