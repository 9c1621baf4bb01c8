"""A policy whose observations and actions have parts, an environment that tells whether it is served rightly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import onnx
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from onnx import TensorProto, helper, numpy_helper

from services.common.bundle import NEXT_STATE_PREFIX, Bundle, write_bundle
from steersman import spaces
from steersman.v1 import common_pb2

GRIPS = 4

OBSERVATION_SPACE = Dict(
    {
        "action/mask": MultiBinary(GRIPS),
        "camera": Box(0, 255, (2, 3, 1), np.uint8),
        "phase": Discrete(3, start=-1),
        "position": Box(-10.0, 10.0, (2,), np.float32),
    }
)
ACTION_SPACE = Dict(
    {
        "grip": Discrete(GRIPS),
        "moves": Tuple([Box(-np.inf, np.inf, (2,), np.float32), MultiDiscrete([3, 2], start=[-1, 0])]),
        "recalled": Box(-np.inf, np.inf, (), np.float64),
    }
)

_STATES = {"steps": (TensorProto.INT64, []), "rewards": (TensorProto.DOUBLE, []), "last": (TensorProto.FLOAT, [2])}
_DTYPES = {
    TensorProto.INT64: common_pb2.DATA_TYPE_INT64,
    TensorProto.DOUBLE: common_pb2.DATA_TYPE_FLOAT64,
    TensorProto.FLOAT: common_pb2.DATA_TYPE_FLOAT32,
}


def right_grip(camera: npt.NDArray[np.uint8], mask: npt.NDArray[np.int8]) -> int:
    """Gives the action part "grip" of the policy: the allowed one that is nearest to the sum of the image."""
    wanted = int(camera.astype(np.int64).sum()) % GRIPS
    distances = [abs(grip - wanted) if allowed else 10 * GRIPS for grip, allowed in enumerate(mask)]
    return int(np.argmin(distances))


def write_nested_bundle(folder: Path) -> Bundle:
    """Writes a bundle with memory that takes the reward of the step before, and shows all of that in its actions.

    "grip" is `right_grip`. "moves/0" is the position minus that of the step before. "moves/1" is the phase, and whether
    the number of the step is odd. "recalled" is the sum of all rewards so far.
    """
    observation_space, action_space = map(spaces.from_gymnasium, (OBSERVATION_SPACE, ACTION_SPACE))
    actions = spaces.tensor_specs(action_space, spaces.ACTION)
    spec = common_pb2.PolicySpec(
        observation_space=observation_space,
        action_space=action_space,
        observation_tensors=[
            *spaces.tensor_specs(observation_space, spaces.OBSERVATION),
            common_pb2.TensorSpec(name=spaces.PREVIOUS_REWARD, dtype=common_pb2.DATA_TYPE_FLOAT32),
        ],
        action_tensors=actions,
        state_tensors=[
            common_pb2.TensorSpec(name=name, dtype=_DTYPES[kind], shape=shape)
            for name, (kind, shape) in _STATES.items()
        ],
        environment_id="Gripping-v0",
        algorithm="none",
        action_distributions=[common_pb2.ActionDistribution(kind="deterministic", transform="none") for _ in actions],
    )
    return write_bundle(folder, _model(), spec, {})


def _model() -> bytes:
    mask, camera = "observation/action~1mask", "observation/camera"
    phase, position = "observation/phase", "observation/position"
    nodes = [
        # grip
        helper.make_node("Cast", [camera], ["pixels"], to=TensorProto.INT64),
        helper.make_node("ReduceSum", ["pixels", "image_axes"], ["sum"], keepdims=0),
        helper.make_node("Mod", ["sum", "grips"], ["wanted"]),
        helper.make_node("Unsqueeze", ["wanted", "last_axis"], ["wanted_column"]),
        helper.make_node("Sub", ["every_grip", "wanted_column"], ["differences"]),
        helper.make_node("Abs", ["differences"], ["distances"]),
        helper.make_node("Cast", [mask], ["allowed"], to=TensorProto.BOOL),
        helper.make_node("Where", ["allowed", "distances", "far"], ["masked"]),
        helper.make_node("ArgMin", ["masked"], ["action/grip"], axis=1, keepdims=0),
        # moves
        helper.make_node("Sub", [position, "last"], ["action/moves/0"]),
        helper.make_node("Identity", [position], [NEXT_STATE_PREFIX + "last"]),
        helper.make_node("Add", ["steps", "one"], [NEXT_STATE_PREFIX + "steps"]),
        helper.make_node("Mod", ["steps", "two"], ["odd"]),
        helper.make_node("Unsqueeze", [phase, "last_axis"], ["phase_column"]),
        helper.make_node("Unsqueeze", ["odd", "last_axis"], ["odd_column"]),
        helper.make_node("Concat", ["phase_column", "odd_column"], ["action/moves/1"], axis=1),
        # recalled
        helper.make_node("Cast", [spaces.PREVIOUS_REWARD], ["reward"], to=TensorProto.DOUBLE),
        helper.make_node("Add", ["rewards", "reward"], ["action/recalled"]),
        helper.make_node("Identity", ["action/recalled"], [NEXT_STATE_PREFIX + "rewards"]),
    ]
    states = [helper.make_tensor_value_info(name, kind, ["batch", *shape]) for name, (kind, shape) in _STATES.items()]
    next_states = [
        helper.make_tensor_value_info(NEXT_STATE_PREFIX + name, kind, ["batch", *shape])
        for name, (kind, shape) in _STATES.items()
    ]
    constants = {
        "image_axes": np.array([1, 2, 3]),
        "last_axis": np.array([1]),
        "grips": np.array(GRIPS),
        "every_grip": np.arange(GRIPS),
        "far": np.array(10 * GRIPS),
        "one": np.array(1),
        "two": np.array(2),
    }
    graph = helper.make_graph(
        nodes,
        "nested",
        [
            helper.make_tensor_value_info(mask, TensorProto.INT8, ["batch", GRIPS]),
            helper.make_tensor_value_info(camera, TensorProto.UINT8, ["batch", 2, 3, 1]),
            helper.make_tensor_value_info(phase, TensorProto.INT64, ["batch"]),
            helper.make_tensor_value_info(position, TensorProto.FLOAT, ["batch", 2]),
            helper.make_tensor_value_info(spaces.PREVIOUS_REWARD, TensorProto.FLOAT, ["batch"]),
            *states,
        ],
        [
            helper.make_tensor_value_info("action/grip", TensorProto.INT64, ["batch"]),
            helper.make_tensor_value_info("action/moves/0", TensorProto.FLOAT, ["batch", 2]),
            helper.make_tensor_value_info("action/moves/1", TensorProto.INT64, ["batch", 2]),
            helper.make_tensor_value_info("action/recalled", TensorProto.DOUBLE, ["batch"]),
            *next_states,
        ],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    serialized: bytes = model.SerializeToString()
    return serialized


class Gripping(gymnasium.Env[Any, Any]):
    """Rewards an action with a number that is different in each step, but only if the policy could have chosen it.

    Episodes have 2 to 5 steps. A wrong action ends one, with a reward of -1.
    """

    observation_space = OBSERVATION_SPACE
    action_space = ACTION_SPACE

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._length = int(self.np_random.integers(2, 6))
        self._steps, self._rewards, self._last = 0, 0.0, np.zeros(2, np.float32)
        self._shown = self._observe()
        return self._shown, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:  # noqa: ANN401 - Gymnasium's
        right = self.action_space.contains(action) and spaces.plain(action) == spaces.plain(self.right_action())
        reward = 1.0 + 0.25 * self._steps if right else -1.0
        self._steps += 1
        self._rewards += reward
        self._last = self._shown["position"]
        self._shown = self._observe()
        return self._shown, reward, not right, self._steps >= self._length, {}

    def right_action(self) -> dict[str, Any]:
        """Gives what the policy has to do now."""
        shown = self._shown
        return {
            "grip": np.int64(right_grip(shown["camera"], shown["action/mask"])),
            "moves": (shown["position"] - self._last, np.array([shown["phase"], self._steps % 2])),
            "recalled": np.array(self._rewards),
        }

    def _observe(self) -> dict[str, Any]:
        random = self.np_random
        mask = random.integers(0, 2, GRIPS, dtype=np.int8)
        mask[random.integers(GRIPS)] = 1
        return {
            "action/mask": mask,
            "camera": random.integers(0, 256, (2, 3, 1), dtype=np.uint8),
            "phase": random.integers(-1, 2),
            "position": random.uniform(-10, 10, 2).astype(np.float32),
        }
