"""Small bundles for tests, made without training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from services.common.bundle import Bundle, write_bundle
from steersman import spaces
from steersman.v1 import common_pb2


def write_linear_bundle(
    folder: Path,
    observation_size: int = 4,
    actions: int = 2,
    seed: int = 0,
    bounds: common_pb2.Space | None = None,
) -> Bundle:
    """Writes a bundle whose greedy action is the largest of `actions` random linear functions of the observation.

    Args:
        folder: Where to.
        observation_size: Numbers in an observation.
        actions: How many actions there are.
        seed: Seed of the functions.
        bounds: The observation space, where an environment's own is wanted instead of an unbounded one.
    """
    spec = linear_spec(observation_size, actions)
    if bounds is not None:
        spec.observation_space.CopyFrom(bounds)
    weights = np.random.default_rng(seed).normal(size=(observation_size, actions)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", [spaces.OBSERVATION, "weights"], ["action_distribution_inputs"]),
            helper.make_node("ArgMax", ["action_distribution_inputs"], [spaces.ACTION], axis=1, keepdims=0),
        ],
        "linear",
        [helper.make_tensor_value_info(spaces.OBSERVATION, TensorProto.FLOAT, ["batch", observation_size])],
        [
            helper.make_tensor_value_info(spaces.ACTION, TensorProto.INT64, ["batch"]),
            helper.make_tensor_value_info("action_distribution_inputs", TensorProto.FLOAT, ["batch", actions]),
        ],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return write_bundle(folder, model.SerializeToString(), spec, {"seed": seed})


def linear_spec(observation_size: int = 4, actions: int = 2) -> common_pb2.PolicySpec:
    """Describes the policy of `write_linear_bundle`, but for the model's hash."""
    observation_space = common_pb2.Space(
        box=common_pb2.BoxSpace(
            dtype=common_pb2.DATA_TYPE_FLOAT32, shape=[observation_size], low=[-float("inf")], high=[float("inf")]
        )
    )
    action_space = common_pb2.Space(discrete=common_pb2.DiscreteSpace(n=actions, dtype=common_pb2.DATA_TYPE_INT64))
    return common_pb2.PolicySpec(
        observation_space=observation_space,
        action_space=action_space,
        observation_tensors=spaces.tensor_specs(observation_space, spaces.OBSERVATION),
        action_tensors=spaces.tensor_specs(action_space, spaces.ACTION),
        environment_id="CartPole-v1",
        algorithm="PPO",
        distribution="categorical",
        action_transform="none",
    )
