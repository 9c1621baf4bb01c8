"""Observations that any policy takes, made from what it says about itself."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from steersman import tensors
from steersman.v1 import common_pb2

Arrays = Mapping[str, "np.ndarray[Any, np.dtype[Any]]"]


Formats = Sequence[tuple[str, np.dtype[Any], tuple[int, ...]]]
"""For each tensor its name, dtype, and shape without a batch axis."""

_MANY_BYTES = 2_000_000


def draw(formats: Formats, size: int | None, seed: int = 0) -> Arrays:
    """Draws zeros and ones for integers, and numbers between them for floats: most spaces have those.

    Args:
        formats: The tensors.
        size: How many observations; None for one without a batch axis.
        seed: Seed of the draw.
    """
    random = np.random.default_rng(seed)
    drawn = {}
    for name, dtype, shape in formats:
        whole = shape if size is None else (size, *shape)
        numbers = random.uniform(size=whole) if dtype.kind == "f" else random.integers(0, 2, size=whole)
        drawn[name] = np.asarray(numbers, dtype)
    return drawn


def many(formats: Formats) -> int:
    """Gives a number of observations that no server answers within a millisecond."""
    return max(1, _MANY_BYTES // sum(dtype.itemsize * math.prod(shape) for _, dtype, shape in formats))


def formats_of(specs: Iterable[common_pb2.TensorSpec]) -> Formats:
    """Gives what `draw` needs to know of the tensors of our own API."""
    return [(spec.name, tensors.NUMPY_DTYPES[spec.dtype], tuple(spec.shape)) for spec in specs]
