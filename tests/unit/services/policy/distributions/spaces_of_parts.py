"""Spaces, messages and distributions for the tests, without wire names."""

from __future__ import annotations

import numpy as np
from gymnasium.spaces import Box

from steersman.v1 import common_pb2

BOX = Box(np.array([-2.0, 0.0, 5.0], np.float32), np.array([2.0, 0.5, 15.0], np.float32), dtype=np.float32)


def box_space(box: Box = BOX) -> common_pb2.BoxSpace:
    return common_pb2.BoxSpace(
        dtype=common_pb2.DATA_TYPE_FLOAT32, shape=box.shape, low=box.low.ravel(), high=box.high.ravel()
    )


def discrete_space(n: int, start: int = 0) -> common_pb2.DiscreteSpace:
    return common_pb2.DiscreteSpace(n=n, start=start, dtype=common_pb2.DATA_TYPE_INT64)


def multi_discrete_space(n: list[int], start: list[int] | None = None) -> common_pb2.MultiDiscreteSpace:
    return common_pb2.MultiDiscreteSpace(
        shape=[len(n)], n=n, start=start or [0] * len(n), dtype=common_pb2.DATA_TYPE_INT64
    )


def multi_binary_space(*shape: int) -> common_pb2.MultiBinarySpace:
    return common_pb2.MultiBinarySpace(shape=shape, dtype=common_pb2.DATA_TYPE_INT8)
