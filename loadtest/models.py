"""The policy of the autoscaling scenario: large enough that a replica is soon full."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bench.models import write_policy
from services.common.bundle import Bundle
from steersman import spaces
from steersman.v1 import common_pb2

POLICY = "wide-random-mlp"
"""Its weights are random: it plays nothing well, it only takes time."""

_SPACE = common_pb2.BoxSpace(dtype=common_pb2.DATA_TYPE_FLOAT32, shape=[4], low=[-float("inf")], high=[float("inf")])
_ACTIONS = 2


def write_wide_mlp(folder: Path, width: int = 2048, layers: int = 4) -> Bundle:
    """Writes a policy of CartPole's spaces with a wide multilayer perceptron of random weights.

    Args:
        folder: Where to.
        width: Units of each hidden layer.
        layers: Hidden layers.
    """
    random = np.random.default_rng(0)
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []
    current = spaces.OBSERVATION
    for layer, (inputs, outputs) in enumerate(itertools.pairwise([4, *[width] * layers, _ACTIONS])):
        matrix = random.normal(size=(inputs, outputs)).astype(np.float32) / np.sqrt(inputs, dtype=np.float32)
        weights.append(numpy_helper.from_array(matrix, f"weights{layer}"))
        nodes.append(helper.make_node("MatMul", [current, f"weights{layer}"], [f"linear{layer}"]))
        current = f"linear{layer}"
        if layer < layers:
            nodes.append(helper.make_node("Tanh", [current], [f"hidden{layer}"]))
            current = f"hidden{layer}"
    nodes.append(helper.make_node("ArgMax", [current], [spaces.ACTION], axis=1, keepdims=0))
    return write_policy(folder, nodes, weights, _SPACE, TensorProto.FLOAT, _ACTIONS)
