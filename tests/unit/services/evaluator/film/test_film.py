from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import numpy.typing as npt
import pytest

from services.evaluator.film.film import Caption, Film

STEPS = 13
SIZES: dict[str, Callable[[int], tuple[int, int]]] = {
    "plain": lambda _: (64, 96),
    "odd": lambda _: (67, 101),
    "growing": lambda step: (64 + step, 96 + step),
    "shrinking": lambda step: (96 - step, 128 - 2 * step),
    "wide": lambda step: (64, 96 + 200 * (step % 2)),
    "tiny": lambda _: (1, 1),
}


def marked(height: int, width: int) -> npt.NDArray[np.uint8]:
    """Draws a blue picture with a red mark in its upper left corner."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[:] = (0, 0, 255)
    picture[:8, :8] = (255, 0, 0)
    return picture


def filmed(kind: str, folder: Path, pictures: int = STEPS) -> Film:
    film = Film(folder / "episode-3", 6.0, STEPS, 1, bars=False)
    for step in range(pictures):
        film.add(marked(*SIZES[kind](step)), Caption([f"step {step}"]), last=step == STEPS - 1)
    return film


def frames(file: Path) -> Iterator[npt.NDArray[np.int64]]:
    for frame in imageio.get_reader(file).iter_data():
        yield np.asarray(frame, np.int64)[..., :3]


@pytest.mark.parametrize("kind", ["plain", "odd", "growing", "shrinking"])
def test_every_frame_is_sound_whatever_sizes_pictures_have(kind: str, tmp_path: Path) -> None:
    filmed(kind, tmp_path).close()
    found = list(frames(tmp_path / "episode-3.mp4"))
    assert len(found) == STEPS
    for frame in found:
        top = frame[:5]
        red = (top[..., 0] > 150) & (top[..., 2] < 110)
        blue = (top[..., 2] > 150) & (top[..., 0] < 110)
        (columns,) = np.nonzero(red.all(axis=0))
        assert len(columns) >= 4
        assert columns[-1] - columns[0] == len(columns) - 1
        assert blue[:, columns[-1] + 6 : columns[-1] + 20].all()
    assert len(imageio.mimread(tmp_path / "episode-3.gif")) == STEPS


@pytest.mark.parametrize("kind", ["wide", "tiny"])
def test_frames_have_one_size(kind: str, tmp_path: Path) -> None:
    filmed(kind, tmp_path).close()
    assert len({frame.shape for frame in frames(tmp_path / "episode-3.mp4")}) == 1
    assert len(list(frames(tmp_path / "episode-3.mp4"))) == STEPS


def test_a_film_appears_when_it_is_complete(tmp_path: Path) -> None:
    film = filmed("plain", tmp_path, pictures=4)
    assert not list(tmp_path.glob("*.mp4"))
    film.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["episode-3.gif", "episode-3.mp4"]
