"""Actions that need no policy."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt


def constant_action(space: gymnasium.Space[Any]) -> Any:  # noqa: ANN401 - of the space's own type
    """Gives the action 0, or what is nearest to it."""
    if isinstance(space, gymnasium.spaces.Dict):
        return {name: constant_action(part) for name, part in space.items()}
    if isinstance(space, gymnasium.spaces.Tuple):
        return tuple(constant_action(part) for part in space)
    if isinstance(space, gymnasium.spaces.Discrete):
        first = int(space.start)
        return np.int64(min(max(0, first), first + int(space.n) - 1))
    if isinstance(space, gymnasium.spaces.Box):
        return np.clip(np.zeros(space.shape, space.dtype), space.low, space.high)
    if isinstance(space, gymnasium.spaces.MultiDiscrete):
        last: npt.NDArray[np.int64] = np.add(space.start, space.nvec, dtype=np.int64) - 1
        return np.clip(np.zeros(space.shape, space.dtype), space.start, last).astype(space.dtype)
    return np.zeros(space.shape or (), space.dtype)
