"""The policies of the faults: one that works, and those that a team would rather not have deployed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from bench.models import write_policy
from services.common.bundle import Bundle, write_bundle
from steersman import spaces
from steersman.v1 import common_pb2

OBSERVATION = np.array([1.0, -0.5, 0.25, 2.0], np.float32)
"""What the load asks about; its first number is what breaks `write_failing_bundle`'s model."""

_SPACE = common_pb2.BoxSpace(dtype=common_pb2.DATA_TYPE_FLOAT32, shape=[4], low=[-float("inf")], high=[float("inf")])
_ACTIONS = 2


def write_working_bundle(folder: Path, seed: int = 0) -> Bundle:
    """Writes a policy that picks the larger one of two random linear functions of the observation."""
    weights = np.random.default_rng(seed).normal(size=(4, _ACTIONS)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", [spaces.OBSERVATION, "weights"], ["logits"]),
        helper.make_node("ArgMax", ["logits"], [spaces.ACTION], axis=1, keepdims=0),
    ]
    return write_policy(
        folder, nodes, [numpy_helper.from_array(weights, "weights")], _SPACE, TensorProto.FLOAT, _ACTIONS
    )


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
