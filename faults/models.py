"""The policies of the faults: one that works, and those that a team would rather not have deployed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from bench.models import write_policy
from services.common.bundle import NEXT_STATE_PREFIX, Bundle, write_bundle
from steersman import spaces
from steersman.v1 import common_pb2

QUESTIONS = tuple((np.array([1.0, second, 0.25, 2.0], np.float32), int(second < 0)) for second in (0.5, -0.5))
"""What the load asks, each with the right action: an answer to somebody else's question is wrong half of the time.

The first number is what breaks `write_failing_bundle`'s model."""

WIDTH = 780 * 1024 // 4
"""Numbers in an observation of `write_wide_bundle`'s policy."""

_SPACE = common_pb2.BoxSpace(dtype=common_pb2.DATA_TYPE_FLOAT32, shape=[4], low=[-float("inf")], high=[float("inf")])
_ACTIONS = 2


def write_working_bundle(folder: Path, seed: int = 0) -> Bundle:
    """Writes a policy that tells by an observation's second number whether it is positive (0) or not (1).

    Args:
        folder: Where to.
        seed: Another one makes another model, which acts the same.
    """
    second = np.array([0.0, 1.0, 0.0, 0.0], np.float32) * (1 + seed)
    weights = np.stack([second, -second], axis=1)
    nodes = [
        helper.make_node("MatMul", [spaces.OBSERVATION, "weights"], ["logits"]),
        helper.make_node("ArgMax", ["logits"], [spaces.ACTION], axis=1, keepdims=0),
    ]
    return write_policy(
        folder, nodes, [numpy_helper.from_array(weights, "weights")], _SPACE, TensorProto.FLOAT, _ACTIONS
    )


def write_remembering_bundle(folder: Path) -> Bundle:
    """Writes a policy that acts as the working one does, and counts the steps of its episode besides."""
    second = np.array([0.0, 1.0, 0.0, 0.0], np.float32)
    nodes = [
        helper.make_node("MatMul", [spaces.OBSERVATION, "weights"], ["logits"]),
        helper.make_node("ArgMax", ["logits"], [spaces.ACTION], axis=1, keepdims=0),
        helper.make_node("Add", ["steps", "one"], [f"{NEXT_STATE_PREFIX}steps"]),
    ]
    weights = [
        numpy_helper.from_array(np.stack([second, -second], axis=1), "weights"),
        numpy_helper.from_array(np.ones(1, np.float32), "one"),
    ]
    return write_policy(folder, nodes, weights, _SPACE, TensorProto.FLOAT, _ACTIONS, state=("steps",))


def write_wide_bundle(folder: Path) -> Bundle:
    """Writes a policy that acts as the working one does, on observations of `WIDTH` numbers: 780 KiB."""
    box = common_pb2.BoxSpace(dtype=_SPACE.dtype, shape=[WIDTH], low=_SPACE.low, high=_SPACE.high)
    nodes = [
        helper.make_node("Gather", [spaces.OBSERVATION, "index"], ["second"], axis=1),
        helper.make_node("Less", ["second", "zero"], ["negative"]),
        helper.make_node("Cast", ["negative"], [spaces.ACTION], to=TensorProto.INT64),
    ]
    weights = [
        numpy_helper.from_array(np.array(1, np.int64), "index"),
        numpy_helper.from_array(np.array(0.0, np.float32), "zero"),
    ]
    return write_policy(folder, nodes, weights, box, TensorProto.FLOAT, _ACTIONS)


def write_failing_bundle(folder: Path) -> Bundle:
    """Writes a policy that computes observations of zeros, as in a warm-up, and fails on real ones.

    It looks up a row of a table that has one row by a number of the observation.
    """
    nodes = [
        helper.make_node("Gather", [spaces.OBSERVATION, "first"], ["number"], axis=1),
        helper.make_node("Cast", ["number"], ["row"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "row"], [spaces.ACTION], axis=0),
    ]
    weights = [
        numpy_helper.from_array(np.array(0, np.int64), "first"),
        numpy_helper.from_array(np.zeros(1, np.int64), "table"),
    ]
    return write_policy(folder, nodes, weights, _SPACE, TensorProto.FLOAT, _ACTIONS)


def write_unloadable_bundle(folder: Path, like: Bundle) -> Bundle:
    """Writes a bundle whose manifest and hashes are in order, but whose model is none."""
    return write_bundle(folder, b"\xff" * 1000, like.spec, {"made by": "faults"})
