"""Small bundles for tests, made without training."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from services.common.bundle import NEXT_STATE_PREFIX, Bundle, write_bundle
from steersman import spaces
from steersman.v1 import common_pb2

INPUTS = "action_distribution_inputs"
VALUE = "value"
TOTAL = "total"
"""The state tensor of bundles with memory."""


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
            helper.make_node("MatMul", [spaces.OBSERVATION, "weights"], [INPUTS]),
            helper.make_node("ArgMax", [INPUTS], [spaces.ACTION], axis=1, keepdims=0),
        ],
        "linear",
        [helper.make_tensor_value_info(spaces.OBSERVATION, TensorProto.FLOAT, ["batch", observation_size])],
        [
            helper.make_tensor_value_info(spaces.ACTION, TensorProto.INT64, ["batch"]),
            helper.make_tensor_value_info(INPUTS, TensorProto.FLOAT, ["batch", actions]),
        ],
        [numpy_helper.from_array(weights, "weights")],
    )
    return write_bundle(folder, _serialize(graph), spec, {"seed": seed})


def write_slow_bundle(folder: Path, observation_size: int = 4, width: int = 256, products: int = 32) -> Bundle:
    """Writes a bundle that spends about ten milliseconds on each observation, however many are in a batch.

    Args:
        folder: Where to.
        observation_size: Numbers in an observation.
        width: Rows and columns of the matrices that are multiplied for each observation.
        products: How many times they are.
    """
    random = np.random.default_rng(0)
    constants = {
        "weights": random.normal(size=(observation_size, width)).astype(np.float32),
        "rows": random.normal(size=(width, 1)).astype(np.float32),
        "square": random.normal(size=(width, width)).astype(np.float32) / np.float32(math.sqrt(width)),
        "middle_axis": np.array([1], np.int64),
        "last_axis": np.array([2], np.int64),
        "first_two": np.array([0, 1], np.int64),
    }
    nodes = [
        helper.make_node("MatMul", [spaces.OBSERVATION, "weights"], ["hidden"]),
        helper.make_node("Unsqueeze", ["hidden", "middle_axis"], ["row"]),
        helper.make_node("MatMul", ["rows", "row"], ["product_0"]),
        *(
            helper.make_node("MatMul", ["square", f"product_{index}"], [f"product_{index + 1}"])
            for index in range(products)
        ),
        helper.make_node("ReduceSum", [f"product_{products}", "last_axis"], ["sums"], keepdims=0),
        helper.make_node("Gather", ["sums", "first_two"], [INPUTS], axis=1),
        helper.make_node("ArgMax", [INPUTS], [spaces.ACTION], axis=1, keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "slow",
        [_floats(spaces.OBSERVATION, observation_size)],
        [helper.make_tensor_value_info(spaces.ACTION, TensorProto.INT64, ["batch"]), _floats(INPUTS, 2)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return write_bundle(folder, _serialize(graph), linear_spec(observation_size, 2), {})


def linear_spec(observation_size: int = 4, actions: int = 2) -> common_pb2.PolicySpec:
    """Describes the policy of `write_linear_bundle`, but for the model's hash."""
    return _spec(
        _unbounded(observation_size), _discrete(actions), "categorical", environment_id="CartPole-v1", algorithm="PPO"
    )


def write_recurrent_bundle(folder: Path, actions: int = 10) -> Bundle:
    """Writes a bundle with memory: its greedy action is the sum of the episode's observations, modulo `actions`.

    So an episode of whole numbers that are not negative proves by its actions that its state travelled. The value is
    the sum before the present observation.

    Args:
        folder: Where to.
        actions: How many actions there are.
    """
    spec = _spec(_unbounded(1), _discrete(actions), "categorical")
    spec.state_tensors.add(name=TOTAL, dtype=common_pb2.DATA_TYPE_FLOAT32, shape=[1])
    next_total = NEXT_STATE_PREFIX + TOTAL
    graph = helper.make_graph(
        [
            helper.make_node("Add", [spaces.OBSERVATION, TOTAL], [next_total]),
            helper.make_node("Mod", [next_total, "modulus"], ["remainder"], fmod=1),
            # The nearer a choice is to the remainder, the larger its logit.
            helper.make_node("Sub", ["remainder", "choices"], ["distance"]),
            helper.make_node("Mul", ["distance", "distance"], ["squared_distance"]),
            helper.make_node("Neg", ["squared_distance"], [INPUTS]),
            helper.make_node("ArgMax", [INPUTS], [spaces.ACTION], axis=1, keepdims=0),
            helper.make_node("Squeeze", [TOTAL, "last_axis"], [VALUE]),
        ],
        "recurrent",
        [_floats(spaces.OBSERVATION, 1), _floats(TOTAL, 1)],
        [
            helper.make_tensor_value_info(spaces.ACTION, TensorProto.INT64, ["batch"]),
            _floats(next_total, 1),
            _floats(INPUTS, actions),
            _floats(VALUE),
        ],
        [
            numpy_helper.from_array(np.array([actions], np.float32), "modulus"),
            numpy_helper.from_array(np.arange(actions, dtype=np.float32), "choices"),
            numpy_helper.from_array(np.array([1], np.int64), "last_axis"),
        ],
    )
    return write_bundle(folder, _serialize(graph), spec, {})


def write_counting_bundle(folder: Path) -> Bundle:
    """Writes a bundle with memory whose action is no choice but the sum of the episode's observations itself.

    Observation, action and state are one number each. The value is the sum before the present observation.

    Args:
        folder: Where to.
    """
    spec = _spec(_unbounded(1), _unbounded(1), "deterministic")
    spec.state_tensors.add(name=TOTAL, dtype=common_pb2.DATA_TYPE_FLOAT32, shape=[1])
    graph = helper.make_graph(
        [
            helper.make_node("Add", [spaces.OBSERVATION, TOTAL], [spaces.ACTION]),
            helper.make_node("Identity", [spaces.ACTION], [NEXT_STATE_PREFIX + TOTAL]),
            helper.make_node("Squeeze", [TOTAL, "last_axis"], [VALUE]),
        ],
        "counting",
        [_floats(spaces.OBSERVATION, 1), _floats(TOTAL, 1)],
        [_floats(spaces.ACTION, 1), _floats(NEXT_STATE_PREFIX + TOTAL, 1), _floats(VALUE)],
        [numpy_helper.from_array(np.array([1], np.int64), "last_axis")],
    )
    return write_bundle(folder, _serialize(graph), spec, {})


def write_gaussian_bundle(
    folder: Path,
    transform: str = "none",
    observation_size: int = 3,
    low: tuple[float, ...] = (-2.0, 0.0),
    high: tuple[float, ...] = (2.0, 0.5),
    seed: int = 0,
) -> Bundle:
    """Writes a bundle with a Box action, drawn from normals whose means and log-deviations are linear functions.

    The greedy action is the mean, taken to the action space; the value is the sum of the observation.

    Args:
        folder: Where to.
        transform: How a draw becomes an action: "none", "clip" or "unsquash".
        observation_size: Numbers in an observation.
        low: The least of each number of an action.
        high: The greatest of each.
        seed: Seed of the functions.
    """
    size = len(low)
    box = common_pb2.BoxSpace(dtype=common_pb2.DATA_TYPE_FLOAT32, shape=[size], low=low, high=high)
    spec = _spec(_unbounded(observation_size), common_pb2.Space(box=box), "diagonal_gaussian", transform)
    means = "means"
    taken = {"none": means, "clip": means, "unsquash": "scaled"}[transform]
    nodes = [
        helper.make_node("MatMul", [spaces.OBSERVATION, "weights"], [INPUTS]),
        helper.make_node("Split", [INPUTS], [means, "log_deviations"], axis=1, num_outputs=2),
        helper.make_node("ReduceSum", [spaces.OBSERVATION, "last_axis"], [VALUE], keepdims=0),
    ]
    if transform == "unsquash":
        nodes.append(helper.make_node("Mul", [means, "half_range"], ["stretched"]))
        nodes.append(helper.make_node("Add", ["stretched", "middle"], ["scaled"]))
    if transform == "none":
        nodes.append(helper.make_node("Identity", [taken], [spaces.ACTION]))
    else:
        nodes.append(helper.make_node("Max", [taken, "low"], ["raised"]))
        nodes.append(helper.make_node("Min", ["raised", "high"], [spaces.ACTION]))
    lows, highs = np.array(low, np.float32), np.array(high, np.float32)
    weights = np.random.default_rng(seed).normal(size=(observation_size, 2 * size)).astype(np.float32)
    constants = {
        "weights": weights,
        "last_axis": np.array([1], np.int64),
        "half_range": (highs - lows) / 2,
        "middle": (highs + lows) / 2,
        "low": lows,
        "high": highs,
    }
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "gaussian",
        [_floats(spaces.OBSERVATION, observation_size)],
        [_floats(spaces.ACTION, size), _floats(INPUTS, 2 * size), _floats(VALUE)],
        [numpy_helper.from_array(array, name) for name, array in constants.items() if name in used],
    )
    return write_bundle(folder, _serialize(graph), spec, {"seed": seed})


def _unbounded(size: int) -> common_pb2.Space:
    """Describes vectors of any numbers."""
    box = common_pb2.BoxSpace(
        dtype=common_pb2.DATA_TYPE_FLOAT32, shape=[size], low=[-float("inf")], high=[float("inf")]
    )
    return common_pb2.Space(box=box)


def _discrete(n: int) -> common_pb2.Space:
    return common_pb2.Space(discrete=common_pb2.DiscreteSpace(n=n, dtype=common_pb2.DATA_TYPE_INT64))


def _spec(
    observation_space: common_pb2.Space,
    action_space: common_pb2.Space,
    distribution: str,
    transform: str = "none",
    environment_id: str = "",
    algorithm: str = "",
) -> common_pb2.PolicySpec:
    return common_pb2.PolicySpec(
        observation_space=observation_space,
        action_space=action_space,
        observation_tensors=spaces.tensor_specs(observation_space, spaces.OBSERVATION),
        action_tensors=spaces.tensor_specs(action_space, spaces.ACTION),
        environment_id=environment_id,
        algorithm=algorithm,
        action_distributions=[
            common_pb2.ActionDistribution(
                kind=distribution, parameters=_parameters(distribution, action_space), transform=transform
            )
        ],
    )


def _parameters(distribution: str, space: common_pb2.Space) -> int:
    if distribution == "deterministic":
        return 0
    return space.discrete.n if distribution == "categorical" else 2 * math.prod(space.box.shape)


def _floats(name: str, *shape: int) -> onnx.ValueInfoProto:
    """Declares a model's float32 input or output of one shape for each element of the batch."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])


def _serialize(graph: onnx.GraphProto) -> bytes:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    serialized: bytes = model.SerializeToString()
    return serialized
