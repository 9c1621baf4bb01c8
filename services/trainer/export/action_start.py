"""Actions whose integers do not start at 0.

RLlib numbers discrete actions from 0 and hands them to the environment as they are, whatever `start` says.
"""

from __future__ import annotations

import copy
from typing import Any

import gymnasium
import numpy as np
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core.columns import Columns

from services.trainer.export.nesting import leaves


class AddActionStart(ConnectorV2):  # type: ignore[misc] # RLlib has no types
    """Module-to-env connector piece that adds the space's `start` to the action on its way to the environment.

    What the learner sees stays numbered from 0. RLlib's NormalizeAndClipActions would undo it, so that one has to be
    switched off (`normalize_actions=False, clip_actions=False`); it does nothing to discrete actions anyway.
    """

    def __call__(self, *, batch: dict[str, Any], **_: Any) -> dict[str, Any]:  # noqa: ANN401 - RLlib's signature
        """Fills the column of actions for the environment."""
        batch[Columns.ACTIONS_FOR_ENV] = copy.deepcopy(batch[Columns.ACTIONS])
        self.foreach_batch_item_change_in_place(
            batch=batch,
            column=Columns.ACTIONS_FOR_ENV,
            func=lambda action, *_: _shifted(self.input_action_space, action),
        )
        return batch


def needs_action_start(space: gymnasium.Space[Any]) -> bool:
    """Tells whether actions of a space have to be shifted."""
    return any(
        isinstance(part, gymnasium.spaces.Discrete | gymnasium.spaces.MultiDiscrete) and bool(np.any(part.start))
        for _, part in leaves(space)
    )


def without_start(space: gymnasium.Space[Any], action: Any) -> Any:  # noqa: ANN401 - a sample of the space
    """Numbers the integers of an environment's action from 0, as RLlib does."""
    return _shifted(space, action, -1)


def _shifted(space: gymnasium.Space[Any], action: Any, sign: int = 1) -> Any:  # noqa: ANN401 - a sample of the space
    if isinstance(space, gymnasium.spaces.Dict):
        return {key: _shifted(part, action[key], sign) for key, part in space.spaces.items()}
    if isinstance(space, gymnasium.spaces.Tuple):
        return tuple(_shifted(part, action[i], sign) for i, part in enumerate(space.spaces))
    if isinstance(space, gymnasium.spaces.Discrete | gymnasium.spaces.MultiDiscrete):
        return action + space.start if sign > 0 else action - space.start
    return action
