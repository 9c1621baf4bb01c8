from __future__ import annotations

import subprocess
import sys
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, Text, Tuple
from hypothesis import given, settings

from steersman import spaces
from steersman.errors import InvalidArgumentError
from steersman.v1 import common_pb2
from tests.gymnasium_spaces import SPACES


@given(space=SPACES)
@settings(deadline=None)
def test_a_space_comes_back_as_it_was(space: gymnasium.Space[Any]) -> None:
    message = spaces.from_gymnasium(space)
    restored = spaces.to_gymnasium(common_pb2.Space.FromString(message.SerializeToString()))
    assert restored == space
    assert str(restored) == str(space)
    assert spaces.from_gymnasium(restored) == message


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint8", "int32", "uint32", "int64", "float16", "float32", "float64"]
)
def test_the_widest_bounds_of_each_dtype_come_back(dtype: str) -> None:
    if np.dtype(dtype).kind == "b":
        low, high = np.array([False]), np.array([True])
    elif np.dtype(dtype).kind == "f":
        low, high = np.array([np.finfo(dtype).min], dtype), np.array([np.finfo(dtype).max], dtype)
    else:
        low, high = np.array([np.iinfo(dtype).min], dtype), np.array([np.iinfo(dtype).max], dtype)
    space = Box(low, high, dtype=np.dtype(dtype).type)
    restored = spaces.to_gymnasium(spaces.from_gymnasium(space))
    assert isinstance(restored, Box)
    assert restored.dtype == space.dtype
    np.testing.assert_array_equal(restored.low, low)
    np.testing.assert_array_equal(restored.high, high)


def test_the_order_of_keys_is_kept() -> None:
    keys = ["b", "a", "c"]
    space = Dict([(key, Discrete(2)) for key in keys])
    assert [part.key for part in spaces.from_gymnasium(space).dict.parts] == keys
    restored = spaces.to_gymnasium(spaces.from_gymnasium(space))
    assert isinstance(restored, Dict)
    assert list(restored.spaces) == keys


def test_bounds_are_kept_short_where_they_are_equal() -> None:
    box = spaces.from_gymnasium(Box(0, 255, (84, 84, 4), np.uint8)).box
    assert list(box.low) == [0]
    assert list(box.high) == [255]


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (Text(3), "expected a Box, Discrete, MultiDiscrete, MultiBinary, Dict or Tuple space, got Text"),
        (Dict({"part": Tuple([Text(3)])}), "got Text"),
        (Dict({1: Discrete(2)}), "expected text for the keys of a Dict space, got 1"),  # type: ignore[dict-item]
        (Dict({"\ud800": Discrete(2)}), "expected Unicode text for the keys"),
        (Box(0, 2**53 + 1, (1,), np.int64), "expected bounds that float64 can hold"),
    ],
)
def test_what_cannot_travel_exactly_is_refused(space: gymnasium.Space[Any], words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        spaces.from_gymnasium(space)


@pytest.mark.parametrize(
    "space",
    [
        common_pb2.Space(),
        common_pb2.Space(box=common_pb2.BoxSpace(shape=[2])),
        common_pb2.Space(box=common_pb2.BoxSpace(dtype=common_pb2.DATA_TYPE_FLOAT32, shape=[3], low=[0, 0], high=[1])),
        common_pb2.Space(box=common_pb2.BoxSpace(dtype=common_pb2.DATA_TYPE_FLOAT32, shape=[1], low=[2], high=[1])),
        common_pb2.Space(discrete=common_pb2.DiscreteSpace(n=0, dtype=common_pb2.DATA_TYPE_INT64)),
        common_pb2.Space(discrete=common_pb2.DiscreteSpace(n=2)),
        common_pb2.Space(
            multi_discrete=common_pb2.MultiDiscreteSpace(shape=[2], n=[1], dtype=common_pb2.DATA_TYPE_INT64)
        ),
    ],
)
def test_messages_that_describe_no_space_are_refused(space: common_pb2.Space) -> None:
    with pytest.raises(InvalidArgumentError, match="expected"):
        spaces.to_gymnasium(space)


def test_the_client_does_without_gymnasium() -> None:
    space = spaces.from_gymnasium(Dict({"joints": Tuple([Box(-1, 1, (3,)), MultiBinary(2)]), "phase": Discrete(3)}))
    program = f"""
import sys
from steersman import PolicyClient, aio, spaces
from steersman.v1 import common_pb2
space = common_pb2.Space.FromString({space.SerializeToString()!r})
layout = spaces.layout(space, spaces.OBSERVATION)
arrays = spaces.flatten({{"joints": ([0.5, 0, 0], [0, 1]), "phase": 2}}, layout)
spaces.check_limits(arrays, spaces.limits_of(layout))
spaces.unflatten(arrays, layout)
print(spaces.describe(space))
assert "gymnasium" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
