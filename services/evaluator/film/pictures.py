"""What environments draw, as pictures of a film: colours of bytes, whatever they were given as."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from steersman.errors import FailedPreconditionError

Picture = npt.NDArray[np.uint8]
"""Shape [height, width, 3]."""

UNFINISHED = ".part"
"""What the names of a film's files end with while they are being written."""

_GREY_AXES, _COLOUR_AXES = 2, 3
_COLOURS, _WITH_TRANSPARENCY = 3, 4
_BRIGHTEST = 255


class Darkroom:
    """Develops the pictures of one film.

    Floats are from 0 to 1, as Matplotlib has them, or from 0 to 255: which, the first picture tells that is not black.

    Args:
        name: What errors call the environment.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._brightest_float: float | None = None

    def develop(self, drawn: object) -> Picture:
        """Makes a picture of what an environment has drawn: of grey, RGB or RGBA (on white), of integers or floats.

        Args:
            drawn: What `render` gave.

        Raises:
            FailedPreconditionError: If it is no picture; says what it is.
        """
        if not isinstance(drawn, np.ndarray):
            raise self._refused(_named(drawn))
        picture = drawn[..., np.newaxis] if drawn.ndim == _GREY_AXES else drawn
        channels = picture.shape[-1] if picture.ndim == _COLOUR_AXES else 0
        if channels not in (1, _COLOURS, _WITH_TRANSPARENCY) or not picture.size or drawn.dtype.kind not in "biuf":
            raise self._refused(f"an array of {drawn.dtype} with shape {list(drawn.shape)}")
        shades = self._from_0_to_255(picture)
        if channels == _WITH_TRANSPARENCY:
            opacity = shades[..., 3:] / _BRIGHTEST
            shades = shades[..., :3] * opacity + _BRIGHTEST * (1 - opacity)
        if channels == 1:
            shades = shades.repeat(_COLOURS, axis=-1)
        return np.ascontiguousarray(np.rint(shades), np.uint8)

    def _from_0_to_255(self, picture: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if picture.dtype == np.uint8:
            return picture
        if picture.dtype == np.bool_:
            return picture.astype(np.uint8) * np.uint8(_BRIGHTEST)
        low, high = float(picture.min()), float(picture.max())
        limit: float = _BRIGHTEST
        if picture.dtype.kind == "f":
            if self._brightest_float is None and high > 0:
                self._brightest_float = 1.0 if high <= 1 else _BRIGHTEST
            limit = self._brightest_float or 1.0
        if not (low >= 0 and high <= limit):
            raise self._refused(
                f"an array of {picture.dtype} with shape {list(picture.shape)} and numbers from {low:g} to {high:g}, "
                f"where 0 to {limit:g} was expected"
            )
        return picture.astype(np.float64) * (_BRIGHTEST / limit)

    def _refused(self, got: str) -> FailedPreconditionError:
        return FailedPreconditionError(
            f"expected an environment that draws pictures (render mode rgb_array), got {got} from {self._name}"
        )


def _named(drawn: object) -> str:
    if isinstance(drawn, list | tuple):
        return f"a {type(drawn).__name__} of {len(drawn)}, as the render mode rgb_array_list gives,"
    return "None" if drawn is None else type(drawn).__name__
