"""A policy with memory that tells what it remembers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from services.common.bundle import NEXT_STATE_PREFIX, Bundle, write_bundle
from steersman import spaces
from steersman.v1 import common_pb2

_FLOAT32 = common_pb2.DATA_TYPE_FLOAT32


def write_counting_bundle(folder: Path) -> Bundle:
    """Writes a bundle whose action is the sum of all observations of the episode so far, the present one included.

    Observation, action and state are one number each. It also gives a value: the sum before the present observation.

    Args:
        folder: Where to.
    """
    space = common_pb2.Space(
        box=common_pb2.BoxSpace(dtype=_FLOAT32, shape=[1], low=[-float("inf")], high=[float("inf")])
    )
    spec = common_pb2.PolicySpec(
        observation_space=space,
        action_space=space,
        observation_tensors=spaces.tensor_specs(space, spaces.OBSERVATION),
        action_tensors=spaces.tensor_specs(space, spaces.ACTION),
        state_tensors=[common_pb2.TensorSpec(name="state", dtype=_FLOAT32, shape=[1])],
        action_distributions=[common_pb2.ActionDistribution(kind="deterministic")],
    )
    vector = ["batch", 1]
    graph = helper.make_graph(
        [
            helper.make_node("Add", [spaces.OBSERVATION, "state"], [spaces.ACTION]),
            helper.make_node("Identity", [spaces.ACTION], [NEXT_STATE_PREFIX + "state"]),
            helper.make_node("Squeeze", ["state", "last"], ["value"]),
        ],
        "counting",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, vector) for name in (spaces.OBSERVATION, "state")],
        [
            helper.make_tensor_value_info(spaces.ACTION, TensorProto.FLOAT, vector),
            helper.make_tensor_value_info(NEXT_STATE_PREFIX + "state", TensorProto.FLOAT, vector),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, ["batch"]),
        ],
        [numpy_helper.from_array(np.array([1], np.int64), "last")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return write_bundle(folder, model.SerializeToString(), spec, {})
