"""From what a policy draws to an action in its space, where RLlib's own piece does not get there.

RLlib numbers discrete actions from 0 and hands them to the environment as they are, whatever `start` says; and it
leaves Boxes alone that have a bound on one side only.
"""

from __future__ import annotations

import copy
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete, Tuple
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core.columns import Columns

from services.trainer.export.nesting import leaves

UNSQUASH, CLIP, NONE = "unsquash", "clip", "none"
"""What happens to the numbers of a Box; see `ActionDistribution.transform`."""


class FitActions(ConnectorV2):  # type: ignore[misc] # RLlib has no types
    """Module-to-env connector piece that brings actions into their space, each part by itself.

    Integers get the space's `start`. Boxes with finite bounds are unsquashed from [-1, 1], as RLlib does; others are
    clipped to what bounds they have. What the learner sees stays as it was drawn. RLlib's NormalizeAndClipActions would
    undo it, so that one has to be switched off (`normalize_actions=False, clip_actions=False`).

    Args:
        input_observation_space: The environment's.
        input_action_space: The environment's.
        clip: Whether all Boxes are clipped, and none unsquashed.
    """

    def __init__(
        self,
        input_observation_space: gymnasium.Space[Any] | None = None,
        input_action_space: gymnasium.Space[Any] | None = None,
        *,
        clip: bool = False,
        **keywords: Any,  # noqa: ANN401 - RLlib's
    ) -> None:
        super().__init__(input_observation_space, input_action_space, **keywords)
        self.clip = clip

    def __call__(self, *, batch: dict[str, Any], **_: Any) -> dict[str, Any]:  # noqa: ANN401 - RLlib's signature
        """Fills the column of actions for the environment."""
        batch[Columns.ACTIONS_FOR_ENV] = copy.deepcopy(batch[Columns.ACTIONS])
        self.foreach_batch_item_change_in_place(
            batch=batch,
            column=Columns.ACTIONS_FOR_ENV,
            func=lambda action, *_: fit_action(self.input_action_space, action, clip=self.clip),
        )
        return batch


def needs_fitting(space: gymnasium.Space[Any]) -> bool:
    """Tells whether RLlib's own piece does not bring actions into a space."""
    return starts_elsewhere(space) or any(
        isinstance(part, Box) and not is_bounded(part) and transform_of(part) == CLIP for _, part in leaves(space)
    )


def starts_elsewhere(space: gymnasium.Space[Any]) -> bool:
    """Tells whether some integers of a space do not start at 0."""
    return any(isinstance(part, Discrete | MultiDiscrete) and bool(np.any(part.start)) for _, part in leaves(space))


def is_bounded(space: Box) -> bool:
    """Tells whether a Box has bounds on all sides, no farther from each other than its numbers can say."""
    with np.errstate(over="ignore"):
        return bool(np.isfinite(space.low).all() and np.isfinite(space.high).all()) and bool(
            np.isfinite(space.high - space.low).all()
        )


def transform_of(space: gymnasium.Space[Any], *, clip: bool = False) -> str:
    """Names what happens to the numbers of a part of an action: `UNSQUASH`, `CLIP` or `NONE`.

    Args:
        space: The part's.
        clip: Whether Boxes are clipped, and none unsquashed.
    """
    if not isinstance(space, Box):
        return NONE
    if not clip and is_bounded(space):
        return UNSQUASH
    return CLIP if clip or np.isfinite(space.low).any() or np.isfinite(space.high).any() else NONE


def fit_action(space: gymnasium.Space[Any], action: Any, *, clip: bool = False) -> Any:  # noqa: ANN401 - of any space
    """Brings what a policy has drawn into the environment's space, with RLlib's arithmetic."""
    match space:
        case Dict():
            return {key: fit_action(part, action[key], clip=clip) for key, part in space.spaces.items()}
        case Tuple():
            return tuple(fit_action(part, action[i], clip=clip) for i, part in enumerate(space.spaces))
        case Discrete() | MultiDiscrete():
            return action + space.start
        case Box():
            return _fit_box(space, action, clip=clip)
    return action


def _fit_box(space: Box, action: npt.NDArray[Any], *, clip: bool) -> npt.NDArray[Any]:
    transform = transform_of(space, clip=clip)
    if transform == UNSQUASH:
        action = space.low + (action + 1.0) * (space.high - space.low) / 2.0
    return action if transform == NONE else np.clip(action, space.low, space.high)


def unfit_action(space: gymnasium.Space[Any], action: Any, *, clip: bool = False) -> Any:  # noqa: ANN401 - of any space
    """Gives what a policy would have drawn for an environment's action: the inverse of `fit_action`.

    A number that its bounds leave no room for is 0.
    """
    match space:
        case Dict():
            return {key: unfit_action(part, action[key], clip=clip) for key, part in space.spaces.items()}
        case Tuple():
            return tuple(unfit_action(part, action[i], clip=clip) for i, part in enumerate(space.spaces))
        case Discrete() | MultiDiscrete():
            return action - space.start
        case Box() if transform_of(space, clip=clip) == UNSQUASH:
            return _unsquashed_from(space, action)
    return action


def _unsquashed_from(space: Box, action: npt.NDArray[Any]) -> npt.NDArray[Any]:
    width = space.high - space.low
    return np.where(width > 0, (action - space.low) * 2.0 / np.where(width > 0, width, 1) - 1.0, 0.0).astype(
        space.dtype
    )
