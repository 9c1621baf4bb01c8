"""RLlib's module-to-env connector pieces as torch functions, for the exported graph; see `observation_connectors`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch
from ray.rllib.connectors import common, module_to_env

from services.trainer.export.action_fit import CLIP, NONE, UNSQUASH, FitActions, starts_elsewhere, transform_of
from services.trainer.export.nesting import leaves
from steersman.errors import FailedPreconditionError

ActionStep = Callable[[torch.Tensor], torch.Tensor]
"""Maps a batch of one part of an action to another one."""


def action_steps(pipeline: Any) -> list[list[ActionStep]]:  # noqa: ANN401 - RLlib has no types
    """Turns a module-to-env pipeline into the steps from the distribution's greedy action to the environment's.

    Args:
        pipeline: RLlib's `ModuleToEnvPipeline`.

    Returns:
        For each part of the action, in the order of its space, the steps.

    Raises:
        FailedPreconditionError: If a piece cannot be exported, or one is missing that the action space needs.
    """
    # Not isinstance: a subclass may compute anything.
    pieces = [piece for piece in pipeline.connectors if type(piece) not in _PLUMBING]
    check_pieces(pieces)
    space = pipeline.input_action_space
    if starts_elsewhere(space) and not any(type(piece) is FitActions for piece in pieces):
        raise FailedPreconditionError(
            f"cannot export actions of {space}: RLlib numbers them from 0, so expected the connector piece FitActions "
            "in the module-to-env pipeline"
        )
    return [[step for piece in pieces for step in _CONVERSIONS[type(piece)](piece, part)] for _, part in leaves(space)]


def check_pieces(pieces: list[Any]) -> None:
    """Checks that pieces can be exported, as far as their kinds tell.

    Raises:
        FailedPreconditionError: If one cannot.
    """
    for piece in pieces:
        if type(piece) not in _CONVERSIONS:
            raise FailedPreconditionError(
                f"cannot export the module-to-env connector piece {type(piece).__name__}: expected only FitActions and "
                "NormalizeAndClipActions besides RLlib's default pieces; train without it, or write its arithmetic in "
                "services/trainer/export/action_connectors.py"
            )


def action_transform(pipeline: Any, space: gymnasium.Space[Any]) -> str:  # noqa: ANN401 - RLlib has no types
    """Names what a module-to-env pipeline does to a draw from the distribution; see `ActionDistribution.transform`.

    Args:
        pipeline: RLlib's `ModuleToEnvPipeline`.
        space: The space of the part of the action.
    """
    transforms = [_transform(piece, space) for piece in pipeline.connectors if type(piece) in _CONVERSIONS]
    return next((transform for transform in transforms if transform != NONE), NONE)


def _fit(piece: Any, space: gymnasium.Space[Any]) -> list[ActionStep]:  # noqa: ANN401
    """Does what `FitActions` does: integers from the space's start; Boxes unsquashed or clipped."""
    if isinstance(space, gymnasium.spaces.Discrete | gymnasium.spaces.MultiDiscrete):
        start = torch.as_tensor(np.asarray(space.start, np.int64))
        return [lambda action: action + start] if np.any(space.start) else []
    return _box_steps(_transform(piece, space), space)


def _normalize_and_clip(piece: Any, space: gymnasium.Space[Any]) -> list[ActionStep]:  # noqa: ANN401
    """Unsquashes an action from [-1, 1] to the bounds, or clips it to them, as the piece is set up."""
    return _box_steps(_transform(piece, space), space)


def _box_steps(transform: str, space: gymnasium.Space[Any]) -> list[ActionStep]:
    if transform == NONE:
        return []
    assert isinstance(space, gymnasium.spaces.Box)  # noqa: S101 - nothing else is transformed
    low, high = torch.as_tensor(space.low), torch.as_tensor(space.high)
    if transform == UNSQUASH:
        return [lambda action: _clip(low + (action + 1.0) * (high - low) / 2.0, low, high)]
    return [lambda action: _clip(action, low, high)]


def _clip(action: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    return torch.minimum(torch.maximum(action, low), high)


def _transform(piece: Any, space: gymnasium.Space[Any]) -> str:  # noqa: ANN401
    if type(piece) is FitActions:
        return transform_of(space, clip=piece.clip)
    if not isinstance(space, gymnasium.spaces.Box):
        return NONE
    if piece.normalize_actions:
        return UNSQUASH if np.all(space.bounded_below) and np.all(space.bounded_above) else NONE
    return CLIP if piece.clip_actions else NONE


_CONVERSIONS: dict[type, Callable[[Any, gymnasium.Space[Any]], list[ActionStep]]] = {
    FitActions: _fit,
    module_to_env.NormalizeAndClipActions: _normalize_and_clip,
}

# Pieces that only move data between RLlib's own containers.
_PLUMBING = frozenset(
    {
        module_to_env.GetActions,
        common.TensorToNumpy,
        module_to_env.UnBatchToIndividualItems,
        module_to_env.RemoveSingleTsTimeRankFromBatch,
        module_to_env.ListifyDataForVectorEnv,
    }
)
