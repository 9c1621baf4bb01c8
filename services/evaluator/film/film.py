"""Films: pictures of an episode with what the policy thinks of them, as MP4 and GIF."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from services.evaluator.film.pictures import UNFINISHED, Picture
from steersman.errors import InternalError
from steersman.v1 import common_pb2

_FONT = ImageFont.load_default(14)
_LINE = 20
_MARGIN = 8
_SMALLEST_WIDTH = 400
_MOST_BARS = 8
_GIF_PICTURES = 150
_GIF_WIDTH = 320


@dataclass(frozen=True)
class Caption:
    """What is written below a picture.

    Attributes:
        lines: Text.
        probabilities: Of each action; empty where actions are not a choice of a few.
        chosen: Which of them was taken; None if none was.
    """

    lines: Sequence[str]
    probabilities: Sequence[float] = ()
    chosen: int | None = None


class Film:
    """Writes one episode as MP4 and as GIF. The GIF has at most 150 pictures, spread evenly.

    The first picture gives the film its size. Later ones that are larger are made smaller as a whole, and smaller ones
    have white around them. The files appear when they are complete.

    Args:
        path: Without suffix.
        pictures_per_second: As the environment has it.
        length: How many pictures are expected.
        lines: Lines of text that each caption has.
        bars: Whether captions have probabilities.
    """

    def __init__(self, path: Path, pictures_per_second: float, length: int, lines: int, *, bars: bool) -> None:
        self._path = path
        self._stride = max(1, math.ceil(length / _GIF_PICTURES))
        self._rate = pictures_per_second
        self._caption_height = _MARGIN + _LINE * (lines + bars)
        self._count = 0
        self._gif: list[Image.Image] = []
        self._size: tuple[int, int] | None = None
        self._video: subprocess.Popen[bytes] | None = None

    def add(self, picture: Picture, caption: Caption, *, last: bool = False) -> None:
        """Adds a picture.

        Args:
            picture: Shape [height, width, 3].
            caption: What is written below.
            last: Whether it is the last one, which the GIF has too.
        """
        frame = self._framed(picture, caption)
        if self._video is None:
            self._video = self._encoder(frame.size)
        assert self._video.stdin is not None  # noqa: S101 - it was asked for
        try:
            self._video.stdin.write(frame.tobytes())
        except BrokenPipeError:
            self._finish_video()
            raise InternalError("the encoder of a film ended early") from None
        if self._count % self._stride == 0 or last:
            height = round(frame.height * _GIF_WIDTH / frame.width)
            self._gif.append(frame.resize((_GIF_WIDTH, height), Image.Resampling.BILINEAR))
        self._count += 1

    def close(self) -> None:
        """Finishes the files. This blocks.

        Raises:
            InternalError: If the encoder failed.
        """
        if self._video is None:
            return
        self._finish_video()
        first, *others = self._gif
        # A GIF counts hundredths of a second, and viewers slow down what is faster than 50 pictures a second.
        duration = max(20, round(1000 * self._stride / self._rate))
        gif = self._unfinished(".gif")
        first.save(gif, "GIF", save_all=True, append_images=others, duration=duration, loop=0)
        for suffix in (".mp4", ".gif"):
            self._unfinished(suffix).replace(self._path.with_suffix(suffix))

    def _finish_video(self) -> None:
        assert self._video is not None  # noqa: S101 - there is a first picture
        _, said = self._video.communicate()
        if self._video.returncode:
            raise InternalError(f"the encoder of a film ended with {self._video.returncode}: {said.decode()}")

    def _unfinished(self, suffix: str) -> Path:
        return self._path.with_suffix(suffix + UNFINISHED)

    def _encoder(self, size: tuple[int, int]) -> subprocess.Popen[bytes]:
        # Not imageio's own writer, which has Python really fork, for the sake of a function that it calls before the
        # encoder starts. In a process with gRPC in it films broke off then, now and then. Here there is no fork.
        source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{size[0]}x{size[1]}", "-r", f"{self._rate:g}"]
        target = ["-an", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-movflags", "+faststart", "-f", "mp4"]
        target.append(str(self._unfinished(".mp4")))
        return subprocess.Popen(
            [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error", *source, "-i", "-", *target],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def _framed(self, picture: Picture, caption: Caption) -> Image.Image:
        image = Image.fromarray(picture)
        if self._size is None:
            self._size = image.size
        width, height = self._size
        share = min(width / image.width, height / image.height)
        if share < 1:
            smaller = (max(1, round(image.width * share)), max(1, round(image.height * share)))
            image = image.resize(smaller, Image.Resampling.BILINEAR)
        # Even, as the codec wants it.
        size = (max(width, _SMALLEST_WIDTH) // 2 * 2, (height + self._caption_height) // 2 * 2)
        frame = Image.new("RGB", size, "white")
        frame.paste(image, ((size[0] - image.width) // 2, 0))
        draw = ImageDraw.Draw(frame)
        top = height + _MARGIN // 2
        for line in caption.lines:
            draw.text((_MARGIN, top), line, fill="black", font=_FONT)
            top += _LINE
        if len(caption.probabilities):
            _draw_bars(draw, caption, top, size[0])
        return frame


def probabilities_of(spec: common_pb2.PolicySpec, inputs: npt.NDArray[Any] | None) -> list[float]:
    """Gives the probability of each action.

    Args:
        spec: The policy's.
        inputs: Its "action_distribution_inputs", of one observation; None where there are none.

    Returns:
        Nothing where actions are not one choice of a few.
    """
    if inputs is None or [each.kind for each in spec.action_distributions] != ["categorical"]:
        return []
    logits = np.asarray(inputs, np.float64).reshape(-1)
    if not 1 <= logits.size <= _MOST_BARS:
        return []
    weights = np.exp(logits - logits.max())
    return [float(part) for part in weights / weights.sum()]


def _draw_bars(draw: ImageDraw.ImageDraw, caption: Caption, top: float, width: int) -> None:
    part = (width - 2 * _MARGIN) / len(caption.probabilities)
    for action, probability in enumerate(caption.probabilities):
        left = _MARGIN + action * part
        colour = "orange" if action == caption.chosen else "lightsteelblue"
        draw.rectangle((left, top, left + probability * (part - _MARGIN), top + _LINE - 5), fill=colour)
        draw.text((left + 2, top - 1), f"{action}: {100 * probability:.0f}%", fill="black", font=_FONT)
