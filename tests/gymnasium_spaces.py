"""Gymnasium spaces of every kind, drawn at random, and samples of them."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from hypothesis import strategies as st

from steersman.spaces import Sample

SHAPES = st.lists(st.integers(1, 3), max_size=3).map(tuple)
INTEGERS = ("i1", "u1", "i2", "u2", "i4", "u4", "i8")
FLOATS = ("f2", "f4", "f8")
KEYS = st.one_of(
    st.sampled_from(["", "a/b", "~", "~1", "~0", "/", "0", "1", "Größe", "カメラ", "spaces", "previous_reward"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
)


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    """Draws boxes of any dtype, whose bounds are the same for all elements, or differ, or are missing."""
    shape = draw(SHAPES)
    dtype = np.dtype(draw(st.sampled_from([*INTEGERS, *FLOATS])))
    if draw(st.integers(0, 19)) == 7:
        shape = (0, *shape)
    if dtype.kind == "f":
        low, high = draw(st.sampled_from([(-1.0, 1.0), (-np.inf, np.inf), (0.0, np.inf), (-np.inf, 2.5)]))
        return Box(low, high, shape, dtype.type)
    limits = np.iinfo(dtype.name)
    first, last = sorted(draw(st.tuples(*[st.integers(limits.min // 4, limits.max // 4)] * 2)))
    lows = np.full(shape, first, dtype)
    highs = np.full(shape, last, dtype)
    if lows.size:
        highs.flat[0] = min(int(last) + 1, limits.max)
    # What no double can hold is refused, and tested elsewhere.
    return Box(lows.astype("f4").astype(dtype), np.maximum(highs.astype("f4").astype(dtype), lows), dtype=dtype.type)


@st.composite
def multi_discretes(draw: st.DrawFn) -> MultiDiscrete:
    """Draws MultiDiscrete spaces of any shape, with and without start."""
    shape = draw(SHAPES.filter(bool))
    size = int(np.prod(shape))
    lengths = np.array(draw(st.lists(st.integers(1, 9), min_size=size, max_size=size))).reshape(shape)
    starts = np.array(draw(st.lists(st.integers(-9, 9), min_size=size, max_size=size))).reshape(shape)
    return MultiDiscrete(lengths, draw(st.sampled_from(["int64", "int32"])), start=starts)


def leaves() -> st.SearchStrategy[Space[Any]]:
    """Draws spaces without parts."""
    discretes: st.SearchStrategy[Space[Any]] = st.builds(
        Discrete,
        st.integers(1, 9),
        start=st.integers(-9, 9),
        dtype=st.sampled_from([np.int64, np.int32, np.int8]),
    )
    binaries = st.builds(MultiBinary, st.integers(1, 4) | SHAPES.filter(lambda shape: len(shape) != 1).map(list))
    return st.one_of(boxes(), discretes, multi_discretes(), binaries)


def nested(depth: int) -> st.SearchStrategy[Space[Any]]:
    """Draws spaces with and without parts, nested up to `depth` times; parts may be empty."""
    if depth == 0:
        return leaves()
    parts = nested(depth - 1)
    named = st.dictionaries(KEYS, parts, max_size=3)
    return st.one_of(
        leaves(),
        named.map(lambda chosen: Dict(OrderedDict(chosen))),
        st.lists(parts, max_size=3).map(Tuple),
    )


def has_tensors(space: Space[Any]) -> bool:
    """Tells whether there is anything in a space, not just empty Dicts and Tuples."""
    if isinstance(space, Dict):
        return any(has_tensors(part) for part in space.spaces.values())
    if isinstance(space, Tuple):
        return any(has_tensors(part) for part in space.spaces)
    return True


SPACES = nested(3).filter(has_tensors)
"""Spaces of every kind, at most three levels deep, with at least one tensor."""


def same(left: Sample, right: Sample) -> bool:
    """Tells whether two samples are equal: structure, types of the structure, dtypes, shapes and values.

    Gymnasium draws arrays or NumPy's numbers from boxes without axes; these count as equal.
    """
    if isinstance(left, dict):
        return (
            isinstance(right, dict)
            and left.keys() == right.keys()
            and all(same(value, right[key]) for key, value in left.items())
        )
    if isinstance(left, tuple):
        return isinstance(right, tuple) and len(left) == len(right) and all(map(same, left, right))
    return (
        isinstance(left, np.ndarray | np.generic)
        and left.dtype == right.dtype
        and left.shape == right.shape
        and np.array_equal(left, right)
    )
