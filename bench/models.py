"""The policies of the benchmark: small, so that what is measured is the way to the model rather than the model."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from services.common.bundle import NEXT_STATE_PREFIX, Bundle, write_bundle
from steersman import spaces
from steersman.v1 import common_pb2

CARTPOLE = "cartpole"
IMAGE = "image"

_HIDDEN = 64
_UNBOUNDED = common_pb2.BoxSpace(
    dtype=common_pb2.DATA_TYPE_FLOAT32, shape=[4], low=[-float("inf")], high=[float("inf")]
)


@dataclass(frozen=True)
class Models:
    """The bundles on disk.

    Attributes:
        cartpole: float32[4] through two hidden layers of 64 to one of two actions.
        image: uint8[84, 84, 4], scaled and averaged over patches, to one of six actions.
    """

    cartpole: Bundle
    image: Bundle

    @property
    def by_policy(self) -> dict[str, Bundle]:
        """The bundles by the name that they are served under."""
        return {CARTPOLE: self.cartpole, IMAGE: self.image}


def write_models(folder: Path) -> Models:
    """Writes both bundles."""
    return Models(write_cartpole(folder / CARTPOLE), write_image(folder / IMAGE))


def write_cartpole(
    folder: Path, box: common_pb2.BoxSpace = _UNBOUNDED, seed: int = 0, hidden: Sequence[int] = (_HIDDEN, _HIDDEN)
) -> Bundle:
    """Writes the bundle of CartPole.

    Args:
        folder: Where.
        box: The observation space, of four numbers.
        seed: Seed of the weights.
        hidden: Units of each hidden layer.
    """
    sizes = [4, *hidden, 2]
    nodes, weights = [], []
    current = spaces.OBSERVATION
    random = np.random.default_rng(seed)
    for layer, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        matrix = random.normal(size=(inputs, outputs)).astype(np.float32) / np.sqrt(inputs, dtype=np.float32)
        weights += [
            numpy_helper.from_array(matrix, f"weights{layer}"),
            numpy_helper.from_array(np.zeros(outputs, np.float32), f"bias{layer}"),
        ]
        nodes.append(helper.make_node("Gemm", [current, f"weights{layer}", f"bias{layer}"], [f"linear{layer}"]))
        current = f"linear{layer}"
        if layer < len(hidden):
            nodes.append(helper.make_node("Tanh", [current], [f"hidden{layer}"]))
            current = f"hidden{layer}"
    nodes.append(helper.make_node("ArgMax", [current], [spaces.ACTION], axis=1, keepdims=0))
    return write_policy(folder, nodes, weights, box, TensorProto.FLOAT, 2)


def write_image(folder: Path) -> Bundle:
    """Writes the bundle of images."""
    matrix = np.random.default_rng(1).normal(size=(4 * 7 * 7, 6)).astype(np.float32)
    nodes = [
        helper.make_node("Cast", [spaces.OBSERVATION], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["numbers", "scale"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["channels"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["channels"], ["pooled"], kernel_shape=[12, 12], strides=[12, 12]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
        helper.make_node("ArgMax", ["logits"], [spaces.ACTION], axis=1, keepdims=0),
    ]
    weights = [
        numpy_helper.from_array(matrix, "weights"),
        numpy_helper.from_array(np.array(255.0, np.float32), "scale"),
    ]
    space = common_pb2.BoxSpace(dtype=common_pb2.DATA_TYPE_UINT8, shape=[84, 84, 4], low=[0], high=[255])
    return write_policy(folder, nodes, weights, space, TensorProto.UINT8, 6)


def write_policy(
    folder: Path,
    nodes: list[onnx.NodeProto],
    weights: list[onnx.TensorProto],
    box: common_pb2.BoxSpace,
    element_type: int,
    actions: int,
    state: Sequence[str] = (),
) -> Bundle:
    """Writes a bundle around a graph that gives one of several actions for each observation.

    Args:
        folder: Where to.
        nodes: The graph, from the tensor "observation" to the tensor "action".
        weights: Its constants.
        box: The observation space.
        element_type: ONNX's type of the observation's elements.
        actions: How many actions there are.
        state: Names of state tensors, of one float32 each; the graph takes them and gives their next values.
    """
    numbers = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 1]) for name in state]
    next_numbers = [
        helper.make_tensor_value_info(f"{NEXT_STATE_PREFIX}{name}", TensorProto.FLOAT, ["batch", 1]) for name in state
    ]
    graph = helper.make_graph(
        nodes,
        "benchmark",
        [helper.make_tensor_value_info(spaces.OBSERVATION, element_type, ["batch", *box.shape]), *numbers],
        [helper.make_tensor_value_info(spaces.ACTION, TensorProto.INT64, ["batch"]), *next_numbers],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    observation_space = common_pb2.Space(box=box)
    action_space = common_pb2.Space(discrete=common_pb2.DiscreteSpace(n=actions, dtype=common_pb2.DATA_TYPE_INT64))
    spec = common_pb2.PolicySpec(
        observation_space=observation_space,
        action_space=action_space,
        observation_tensors=spaces.tensor_specs(observation_space, spaces.OBSERVATION),
        action_tensors=spaces.tensor_specs(action_space, spaces.ACTION),
        environment_id="benchmark",
        algorithm="random weights",
        state_tensors=[
            common_pb2.TensorSpec(name=name, dtype=common_pb2.DATA_TYPE_FLOAT32, shape=[1]) for name in state
        ],
        action_distributions=[common_pb2.ActionDistribution(kind="deterministic")],
    )
    return write_bundle(folder, model.SerializeToString(), spec, {"made by": "bench"})
