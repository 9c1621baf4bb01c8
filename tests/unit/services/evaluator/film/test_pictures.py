from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from services.evaluator.film.pictures import Darkroom
from steersman.errors import FailedPreconditionError

BLUE = np.zeros((64, 96, 3), np.uint8)
BLUE[..., 2] = 255
RED_MARK = BLUE.copy()
RED_MARK[:8, :8] = (255, 0, 0)


def developed(*drawn: object) -> list[npt.NDArray[np.uint8]]:
    darkroom = Darkroom("Zoo-v0")
    return [darkroom.develop(each) for each in drawn]


@pytest.mark.parametrize(
    "drawn",
    [
        RED_MARK,
        RED_MARK / 255.0,
        (RED_MARK / 255.0).astype(np.float32),
        RED_MARK.astype(np.float64),
        RED_MARK.astype(np.int64),
        RED_MARK[::-1].copy()[::-1],
        np.dstack([RED_MARK, np.full((64, 96), 255, np.uint8)]),
        np.dstack([RED_MARK / 255.0, np.ones((64, 96))]),
    ],
)
def test_pictures_are_what_they_are_meant_to_be(drawn: npt.NDArray[Any]) -> None:
    (picture,) = developed(drawn)
    assert picture.flags.c_contiguous
    np.testing.assert_array_equal(picture, RED_MARK)


def test_grey_is_grey_in_all_colours() -> None:
    grey = np.full((3, 4), 85, np.uint8)
    for picture in developed(grey, grey[..., np.newaxis]):
        np.testing.assert_array_equal(picture, np.full((3, 4, 3), 85))
    (picture,) = developed(np.eye(2, dtype=bool))
    assert picture[..., 0].tolist() == [[255, 0], [0, 255]]


def test_what_is_transparent_is_white() -> None:
    (picture,) = developed(np.zeros((2, 2, 4), np.uint8))
    assert picture.tolist() == np.full((2, 2, 3), 255).tolist()


def test_black_does_not_tell_how_bright_floats_can_be() -> None:
    _, bright = developed(np.zeros((2, 2, 3)), np.full((2, 2, 3), 255.0))
    assert bright.min() == 255


@pytest.mark.parametrize(
    ("drawn", "got"),
    [
        (None, "got None from Zoo-v0"),
        ([RED_MARK], "got a list of 1, as the render mode rgb_array_list gives, from Zoo-v0"),
        ("a picture", "got str"),
        (np.zeros((2, 2, 2)), r"got an array of float64 with shape \[2, 2, 2\]"),
        (np.zeros((0, 4, 3)), r"shape \[0, 4, 3\]"),
        (np.full((2, 2, 3), -1.0), r"numbers from -1 to -1, where 0 to 1 was expected"),
        (np.full((2, 2, 3), np.nan), "numbers from nan to nan"),
        (np.full((2, 2, 3), 300), "numbers from 300 to 300, where 0 to 255 was expected"),
    ],
)
def test_what_is_no_picture_is_named(drawn: object, got: str) -> None:
    with pytest.raises(FailedPreconditionError, match=got):
        developed(drawn)


def test_floats_that_change_their_scale_are_named() -> None:
    with pytest.raises(FailedPreconditionError, match="numbers from 200 to 200, where 0 to 1 was expected"):
        developed(RED_MARK / 255.0, np.full((2, 2, 3), 200.0))
