from __future__ import annotations

from pathlib import Path

import gymnasium
import numpy as np
import pytest

from loadtest.observations import make_source
from loadtest.options import LoadOptions, address, parsed_options
from steersman.errors import InvalidArgumentError
from steersman.recording import record


def test_an_environment_is_stepped_from_episode_to_episode() -> None:
    source = make_source("CartPole-v1", None, 0, seed=1)
    ends = 0
    for _ in range(100):
        assert source.observe().shape == (4,)
        ends += source.act(0)
    assert ends >= 5, "always to the left, a pole falls within twenty steps"
    source.close()


def test_a_vector_of_environments_is_one_observation() -> None:
    source = make_source("CartPole-v1", None, 8, seed=1)
    before = source.observe().copy()
    assert before.shape == (8, 4)
    assert source.act(np.zeros(8, np.int64)) is False
    assert not np.array_equal(source.observe(), before)
    source.close()


@pytest.mark.parametrize("size", [0, 3])
def test_a_recording_is_gone_through_again_and_again(tmp_path: Path, size: int) -> None:
    rows = np.arange(20, dtype=np.float32).reshape(5, 4)
    np.save(tmp_path / "observations.npy", rows)
    source = make_source("", tmp_path / "observations.npy", size, seed=6)
    assert np.array_equal(source.observe(), rows[[1, 2, 3]] if size else rows[1])
    source.act(None)
    assert np.array_equal(source.observe(), rows[[4, 0, 1]] if size else rows[2])
    source.close()


def test_a_recording_of_the_command_line_is_read(tmp_path: Path) -> None:
    recorded = record(lambda: gymnasium.make("CartPole-v1"), tmp_path, episodes=2)
    source = make_source("", recorded.file, 0, seed=0)
    assert source.observe().shape == (4,)
    assert source.observe().dtype == np.float32


@pytest.mark.parametrize(("environment", "recording"), [("CartPole-v99", None), ("", "none.npy"), ("", "none")])
def test_what_is_not_there(environment: str, recording: str | None) -> None:
    with pytest.raises(InvalidArgumentError, match="expected"):
        make_source(environment, Path(recording) if recording else None, 0, seed=0)


@pytest.mark.parametrize("host", ["127.0.0.1:50051", "http://127.0.0.1:50051", "grpc://127.0.0.1:50051/", None, ""])
def test_addresses(host: str | None) -> None:
    assert address(host) == "127.0.0.1:50051"


def test_without_a_command_line_there_are_defaults() -> None:
    assert parsed_options(None) == LoadOptions()
