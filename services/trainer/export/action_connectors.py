"""RLlib's module-to-env connector pieces as torch functions, for the exported graph; see `observation_connectors`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch
from ray.rllib.connectors import common, module_to_env

from services.trainer.export.action_start import AddActionStart, needs_action_start
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
    pieces = [piece for piece in pipeline.connectors if type(piece) not in _PLUMBING]
    for piece in pieces:
        # Not isinstance: a subclass may compute anything.
        if type(piece) not in _CONVERSIONS:
            raise FailedPreconditionError(
                f"cannot export the module-to-env connector piece {type(piece).__name__}: expected only AddActionStart "
                "and NormalizeAndClipActions besides RLlib's default pieces; train without it, or write its arithmetic "
                "in services/trainer/export/action_connectors.py"
            )
    space = pipeline.input_action_space
    if needs_action_start(space) and not any(type(piece) is AddActionStart for piece in pieces):
        raise FailedPreconditionError(
            f"cannot export actions of {space}: RLlib numbers them from 0, so expected the connector piece "
            "AddActionStart in the module-to-env pipeline"
        )
    return [[step for piece in pieces for step in _CONVERSIONS[type(piece)](piece, part)] for _, part in leaves(space)]


def action_transform(pipeline: Any, space: gymnasium.Space[Any]) -> str:  # noqa: ANN401 - RLlib has no types
    """Names what a module-to-env pipeline does to a draw from the distribution; see `ActionDistribution.transform`.

    Args:
        pipeline: RLlib's `ModuleToEnvPipeline`.
        space: The space of the part of the action.
    """
    pieces = [piece for piece in pipeline.connectors if type(piece) is module_to_env.NormalizeAndClipActions]
    return _transform(pieces[0], space) if pieces else "none"


def _add_action_start(_piece: Any, space: gymnasium.Space[Any]) -> list[ActionStep]:  # noqa: ANN401
    if not isinstance(space, gymnasium.spaces.Discrete | gymnasium.spaces.MultiDiscrete):
        return []
    start = torch.as_tensor(np.asarray(space.start, np.int64))
    return [lambda action: action + start]


def _normalize_and_clip(piece: Any, space: gymnasium.Space[Any]) -> list[ActionStep]:  # noqa: ANN401
    """Unsquashes an action from [-1, 1] to the bounds, or clips it to them, as the piece is set up."""
    transform = _transform(piece, space)
    if transform == "none":
        return []
    assert isinstance(space, gymnasium.spaces.Box)  # noqa: S101 - nothing else is transformed
    low, high = torch.as_tensor(space.low), torch.as_tensor(space.high)
    if transform == "unsquash":
        return [lambda action: _clip(low + (action + 1.0) * (high - low) / 2.0, low, high)]
    return [lambda action: _clip(action, low, high)]


def _clip(action: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    return torch.minimum(torch.maximum(action, low), high)


def _transform(piece: Any, space: gymnasium.Space[Any]) -> str:  # noqa: ANN401
    if not isinstance(space, gymnasium.spaces.Box):
        return "none"
    if piece.normalize_actions:
        return "unsquash" if np.all(space.bounded_below) and np.all(space.bounded_above) else "none"
    return "clip" if piece.clip_actions else "none"


_CONVERSIONS: dict[type, Callable[[Any, gymnasium.Space[Any]], list[ActionStep]]] = {
    AddActionStart: _add_action_start,
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
