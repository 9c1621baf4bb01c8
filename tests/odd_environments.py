"""Environments that are odd in the ways that people have reported, registered by importing this module.

Each is right in what it means: only how it hands things out differs from kind to kind.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, Text

SCALES, THERMOSTAT, BOXES, MIX, ROOM, GAUGE, BUFFERED, COUNTED = (
    f"Steersman{name}-v0" for name in ("Scales", "Thermostat", "Boxes", "Mix", "Room", "Gauge", "Buffered", "Counted")
)
INFINITY = np.inf

REWARDS: dict[str, Callable[[float], Any]] = {
    "float": float,
    "int": round,
    "float32": np.float32,
    "array0": np.array,
    "array1": lambda number: np.array([number], np.float32),
    "bool": bool,
    "vector": lambda number: np.array([number, 0.5], np.float32),
    "none": lambda _: None,
    "nan": lambda _: float("nan"),
    "text": str,
}
SOUND_REWARDS = ("float", "int", "float32", "array0", "array1", "bool")

EMITTED = ("float32", "float64", "step64", "late64", "list", "strided", "late-outside")
"""What a thermostat can do besides showing NaN."""

ACTIONS: dict[str, Space[Any]] = {
    "unbounded64": Box(-INFINITY, INFINITY, (1,), np.float64),
    "half": Box(0.0, INFINITY, (2,), np.float32),
    "mixed": Box(np.array([-1.0, -INFINITY]), np.array([1.0, INFINITY]), dtype=np.float32),
    "scalar": Box(0.0, 1.0, (), np.float64),
    "table": Box(-1.0, 1.0, (2, 2), np.float32),
    "pinned": Box(np.array([-1.0, 0.5]), np.array([1.0, 0.5]), dtype=np.float32),
    "whole": Box(0, 9, (2,), np.int64),
}

_Steps = tuple[Any, Any, Any, Any, dict[str, Any]]


class Scales(gymnasium.Env[Any, Any]):
    """Two pans; the action names the heavier one. A right answer is worth 1; an episode has 20 steps.

    Args:
        reward: What the reward is made into, a key of `REWARDS`.
        worth: What a right answer is worth.
    """

    def __init__(self, reward: str = "float", worth: float = 1.0) -> None:
        self.observation_space = Box(-1.0, 1.0, (2,), np.float32)
        self.action_space = Discrete(2)
        self._shape, self._worth, self._steps = REWARDS[reward], worth, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._steps = 0
        return self._weigh(), {}

    def step(self, action: Any) -> _Steps:  # noqa: ANN401
        self._steps += 1
        right = int(action) == int(self._pans[1] > self._pans[0])
        reward = self._shape(self._worth if right else 0.0)
        return self._weigh(), reward, np.bool_(self._steps == 20), np.bool_(False), {}

    def _weigh(self) -> npt.NDArray[np.float32]:
        self._pans = self.np_random.uniform(-1.0, 1.0, 2).astype(np.float32)
        return self._pans


class Thermostat(gymnasium.Env[Any, Any]):
    """Heat or do not. The values are the same whatever `emits` is. 30 steps.

    Args:
        emits: One of `EMITTED`; or "late-nan" for NaN in the tenth step.
    """

    def __init__(self, emits: str = "float32") -> None:
        self.observation_space = Box(-10.0, 10.0, (3,), np.float32)
        self.action_space = Discrete(2)
        self._emits, self._steps, self._temperature = emits, 0, 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._steps, self._temperature = 0, float(self.np_random.uniform(-2.0, 2.0))
        return self._shown(is_reset=True), {}

    def step(self, action: Any) -> _Steps:  # noqa: ANN401
        self._steps += 1
        self._temperature += (0.3 if action else -0.3) + float(self.np_random.normal(0.0, 0.05))
        self._temperature = float(np.clip(self._temperature, -9.0, 9.0))
        reward = 1.0 if abs(self._temperature) < 0.5 else 0.0
        return self._shown(is_reset=False), reward, False, self._steps == 30, {}

    def _shown(self, *, is_reset: bool) -> Any:  # noqa: ANN401
        exact = np.array([self._temperature, np.sign(self._temperature), self._steps / 30], np.float32)
        emits, late = self._emits, self._steps >= 10
        if emits == "float64" or (emits == "step64" and not is_reset) or (emits == "late64" and late):
            return exact.astype(np.float64)
        if emits == "list":
            return [float(number) for number in exact]
        if emits == "strided":
            return exact[::-1].copy()[::-1]
        if emits == "late-outside" and late:
            return np.array([np.nextafter(np.float32(10), np.float32(11)), *exact[1:]], np.float32)
        if emits == "late-nan" and self._steps == 10:
            return np.array([np.nan, *exact[1:]], np.float32)
        return exact


class Boxes(gymnasium.Env[Any, Any]):
    """A target is shown, and the first number of the action should be near it. 25 steps.

    Every action has to be finite, of the space's shape and kind of dtype, and in the space; else the step raises.

    Args:
        kind: Which action space, a key of `ACTIONS`.
    """

    def __init__(self, kind: str = "unbounded64") -> None:
        self.observation_space = Box(-INFINITY, INFINITY, (1,), np.float64)
        self.action_space = copy.deepcopy(ACTIONS[kind])
        self._pinned, self._steps = kind == "pinned", 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._steps = 0
        return self._aim(), {}

    def step(self, action: Any) -> _Steps:  # noqa: ANN401
        array, space = np.asarray(action), self.action_space
        if array.shape != space.shape or array.dtype != space.dtype:
            raise ValueError(f"expected {space}, got {array.dtype} of shape {array.shape}")
        if not np.isfinite(array).all() or not space.contains(array):
            raise ValueError(f"expected numbers in {space}, got {array}")
        if self._pinned and array[1] != np.float32(0.5):
            raise ValueError(f"the second number can only be 0.5, got {array[1]!r}")
        distance = abs(float(np.ravel(array)[0]) - float(self._target[0]))
        self._steps += 1
        return self._aim(), -min(distance, 10.0), False, self._steps == 25, {}

    def _aim(self) -> npt.NDArray[Any]:
        self._target = self.np_random.uniform(0.0, 1.0, 1)
        return self._target


class Mix(gymnasium.Env[Any, Any]):
    """A push between 0 and 100 is best at 50; a gear that starts elsewhere stands beside it. 20 steps.

    Args:
        start: The gear's least number.
    """

    def __init__(self, start: int = 1) -> None:
        self.observation_space = Box(-1.0, 1.0, (2,), np.float32)
        self.action_space = Dict({"gear": Discrete(2, start=start), "push": Box(0.0, 100.0, (1,), np.float32)})
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._steps = 0
        return self._look(), {}

    def step(self, action: Any) -> _Steps:  # noqa: ANN401
        if not self.action_space.contains(action):
            raise ValueError(f"expected {self.action_space}, got {action}")
        self._steps += 1
        return self._look(), -abs(float(action["push"][0]) - 50.0) / 50.0, False, self._steps == 20, {}

    def _look(self) -> npt.NDArray[np.float32]:
        return self.np_random.uniform(-1, 1, 2).astype(np.float32)


class Room(gymnasium.Env[Any, Any]):
    """The first pixel says which of three actions is right; there are words besides. 15 steps.

    Args:
        pixels: Shape of the picture.
        floats: Whether pixels are floats from 0 to 1 instead of bytes.
    """

    def __init__(self, pixels: tuple[int, ...] = (7, 7, 3), floats: bool = False) -> None:
        self._pixels, self._floats, self._steps, self._right = tuple(map(int, pixels)), floats, 0, 0
        image = Box(0.0, 1.0, self._pixels, np.float32) if floats else Box(0, 255, self._pixels, np.uint8)
        self.observation_space = Dict({"direction": Discrete(4), "image": image, "mission": Text(40)})
        self.action_space = Discrete(3)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._steps = 0
        return self._look(), {}

    def step(self, action: Any) -> _Steps:  # noqa: ANN401
        self._steps += 1
        reward = float(int(action) == self._right)
        return self._look(), reward, False, self._steps == 15, {}

    def _look(self) -> dict[str, Any]:
        self._right = int(self.np_random.integers(3))
        image = np.zeros(self._pixels, np.uint8)
        image[0, 0, 0] = 100 * self._right
        shown: npt.NDArray[Any] = (image / 255).astype(np.float32) if self._floats else image
        return {"direction": int(self.np_random.integers(4)), "image": shown, "mission": "fetch the blue key"}


class ImageOnly(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Leaves nothing but the picture."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        assert isinstance(env.observation_space, Dict)
        self.observation_space = env.observation_space["image"]

    def observation(self, observation: Any) -> Any:  # noqa: ANN401
        return observation["image"]


class Gauge(gymnasium.Env[Any, Any]):
    """The reading is 1000 plus or minus a little; the action says whether it is above 1000. 40 steps."""

    def __init__(self) -> None:
        self.observation_space = Box(-INFINITY, INFINITY, (2,), np.float32)
        self.action_space = Discrete(2)
        self._steps, self._offset = 0, 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._steps = 0
        return self._read(), {}

    def step(self, action: Any) -> _Steps:  # noqa: ANN401
        reward = float(int(action) == int(self._offset > 0))
        self._steps += 1
        return self._read(), reward, False, self._steps == 40, {}

    def _read(self) -> npt.NDArray[np.float32]:
        self._offset = float(self.np_random.normal(0.0, 1.0))
        return np.array([1000.0 + self._offset, 500.0], np.float32)


class Buffered(gymnasium.Env[Any, Any]):
    """Shows the same numbers either in one array for all steps, or in a new one each time. 10 steps.

    Args:
        reuses: Whether it is one array; and if so, one for all environments of this kind.
    """

    _buffer = np.zeros(3, np.float32)

    def __init__(self, reuses: bool = True) -> None:
        self.observation_space = Box(-10.0, 10.0, (3,), np.float32)
        self.action_space = Discrete(2)
        self._reuses, self._steps = reuses, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._steps = 0
        return self._show(), {}

    def step(self, action: Any) -> _Steps:  # noqa: ANN401
        self._steps += 1
        observation = self._show()
        return observation, float(observation[0] > 0) * int(action), False, self._steps == 10, {}

    def _show(self) -> npt.NDArray[np.float32]:
        numbers = self.np_random.uniform(-10.0, 10.0, 3).astype(np.float32)
        if not self._reuses:
            return numbers
        self._buffer[:] = numbers
        return self._buffer


class Counted(gymnasium.Env[Any, Any]):
    """Shows integers that do not start at 0, or have two axes; the action is the parity of the first. 12 steps."""

    def __init__(self) -> None:
        self.observation_space = Dict(
            {
                "floor": Discrete(3, start=-1),
                "lights": MultiBinary((2, 2)),
                "table": MultiDiscrete(np.array([[2, 3], [4, 2]]), start=np.array([[0, 1], [-2, 0]])),
            }
        )
        self.action_space = Discrete(2)
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self._steps = 0
        self._observation = self.observation_space.sample()
        return self._observation, {}

    def step(self, action: Any) -> _Steps:  # noqa: ANN401
        self._steps += 1
        reward = float(int(action) == int(self._observation["floor"]) % 2)
        self._observation = self.observation_space.sample()
        return self._observation, reward, False, self._steps == 12, {}


for _name, _kind in (
    (SCALES, Scales),
    (THERMOSTAT, Thermostat),
    (BOXES, Boxes),
    (MIX, Mix),
    (ROOM, Room),
    (GAUGE, Gauge),
    (BUFFERED, Buffered),
    (COUNTED, Counted),
):
    gymnasium.register(_name, entry_point=f"{__name__}:{_kind.__name__}")
