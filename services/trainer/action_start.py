"""Discrete actions that do not start at 0.

RLlib numbers discrete actions from 0 and hands them to the environment as they are, whatever `Discrete.start` says.
"""

from __future__ import annotations

import copy
from typing import Any

import gymnasium
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core.columns import Columns


class AddActionStart(ConnectorV2):  # type: ignore[misc] # RLlib has no types
    """Module-to-env connector piece that adds `Discrete.start` to the action on its way to the environment.

    What the learner sees stays numbered from 0. RLlib's NormalizeAndClipActions would undo it, so that one has to be
    switched off (`normalize_actions=False, clip_actions=False`); it does nothing to discrete actions anyway.
    """

    def __call__(self, *, batch: dict[str, Any], **_: Any) -> dict[str, Any]:  # noqa: ANN401 - RLlib's signature
        """Fills the column of actions for the environment."""
        start = self.input_action_space.start
        batch[Columns.ACTIONS_FOR_ENV] = copy.deepcopy(batch[Columns.ACTIONS])
        self.foreach_batch_item_change_in_place(
            batch=batch,
            column=Columns.ACTIONS_FOR_ENV,
            func=lambda action, *_: action + start,
        )
        return batch


def needs_action_start(space: gymnasium.Space[Any]) -> bool:
    """Tells whether actions of a space have to be shifted."""
    return isinstance(space, gymnasium.spaces.Discrete) and int(space.start) != 0
