"""RLlib's connector pieces as torch functions, for the exported graph.

Each function does the same arithmetic in the same order and precision as the piece that it stands for, so that the
graph answers what RLlib would. A piece that is not known here is refused by name: leaving one out would give a policy
that acts on something else than it was trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np
import torch
from ray.rllib.connectors import common, env_to_module, module_to_env
from ray.rllib.connectors.common.flatten_observations import FlattenObservations
from ray.rllib.utils.filter import SMALL_NUMBER

from services.trainer.action_start import AddActionStart
from steersman.errors import FailedPreconditionError

Step = Callable[[torch.Tensor], torch.Tensor]
"""Maps a batch to a batch: the leading axis is the batch axis."""

_Conversion = Callable[[Any], list[Step]]


def observation_steps(pipeline: Any) -> list[Step]:  # noqa: ANN401 - RLlib has no types
    """Turns an env-to-module pipeline into the steps from a raw observation to what the module takes.

    Args:
        pipeline: RLlib's `EnvToModulePipeline`.

    Returns:
        The steps, in order. They keep the observation's dtype, as the pieces do.

    Raises:
        FailedPreconditionError: If a piece cannot be exported.
    """
    return _steps(pipeline, "env-to-module", _OBSERVATION_PIECES)


def action_steps(pipeline: Any) -> list[Step]:  # noqa: ANN401 - RLlib has no types
    """Turns a module-to-env pipeline into the steps from the distribution's mode to what the environment takes.

    Args:
        pipeline: RLlib's `ModuleToEnvPipeline`.

    Returns:
        The steps, in order.

    Raises:
        FailedPreconditionError: If a piece cannot be exported.
    """
    return _steps(pipeline, "module-to-env", _ACTION_PIECES)


def action_transform(pipeline: Any) -> str:  # noqa: ANN401 - RLlib has no types
    """Names what a module-to-env pipeline does to a draw from the distribution; see `ActionDistribution.transform`.

    Args:
        pipeline: RLlib's `ModuleToEnvPipeline`.
    """
    pieces = [piece for piece in pipeline.connectors if type(piece) is module_to_env.NormalizeAndClipActions]
    return _transform(pieces[0]) if pieces else "none"


def _steps(pipeline: Any, name: str, known: Mapping[type, _Conversion]) -> list[Step]:  # noqa: ANN401
    steps: list[Step] = []
    for piece in pipeline.connectors:
        # Not isinstance: a subclass may compute anything.
        conversion = known.get(type(piece))
        if conversion is None:
            supported = ", ".join(sorted({kind.__name__ for kind, made in known.items() if made is not _plumbing}))
            raise FailedPreconditionError(
                f"cannot export the {name} connector piece {type(piece).__name__}: expected only {supported} besides "
                "RLlib's default pieces; train without it, or write its arithmetic in services/trainer/connectors.py"
            )
        steps += conversion(piece)
    return steps


def _plumbing(_piece: Any) -> list[Step]:  # noqa: ANN401
    """A piece that only moves data between RLlib's own containers."""
    return []


def _mean_std_filter(piece: Any) -> list[Step]:  # noqa: ANN401
    """Normalises with the statistics that the filter has now: frozen, where RLlib's own goes on learning."""
    frozen = piece._filters[None]  # noqa: SLF001 - the only place where the statistics are
    if not isinstance(piece.input_observation_space, gymnasium.spaces.Box):
        raise FailedPreconditionError(
            f"cannot export MeanStdFilter for {piece.input_observation_space}: expected a Box; flatten it first"
        )
    # Copies: the filter changes its arrays in place.
    mean = torch.tensor(np.asarray(frozen.running_stats.mean, np.float64))
    # RLlib keeps the mean in float64 and the deviation in float32, and the quotient is float64.
    deviation = torch.tensor(np.asarray(frozen.running_stats.std + SMALL_NUMBER, np.float64))
    demean, scale, limit = bool(frozen.demean), bool(frozen.destd), frozen.clip

    def normalise(observation: torch.Tensor) -> torch.Tensor:
        values = observation.to(torch.float64)
        if demean:
            values = values - mean
        if scale:
            values = values / deviation
        if limit:
            values = torch.clamp(values, -limit, limit)
        return values.to(observation.dtype)

    return [normalise]


def _flatten_observations(piece: Any) -> list[Step]:  # noqa: ANN401
    """Reshapes a Box to one axis, in float32."""
    if not isinstance(piece.input_observation_space, gymnasium.spaces.Box):
        raise FailedPreconditionError(
            f"cannot export FlattenObservations for {piece.input_observation_space}: expected a Box"
        )
    return [lambda observation: observation.flatten(start_dim=1).to(torch.float32)]


def _add_action_start(piece: Any) -> list[Step]:  # noqa: ANN401
    start = int(piece.input_action_space.start)
    return [lambda action: action + start]


def _normalize_and_clip(piece: Any) -> list[Step]:  # noqa: ANN401
    """Unsquashes an action from [-1, 1] to the bounds, or clips it to them, as the piece is set up."""
    transform = _transform(piece)
    if transform == "none":
        return []
    space = piece.input_action_space
    low, high = torch.as_tensor(space.low), torch.as_tensor(space.high)
    if transform == "unsquash":
        return [lambda action: _clip(low + (action + 1.0) * (high - low) / 2.0, low, high)]
    return [lambda action: _clip(action, low, high)]


def _transform(piece: Any) -> str:  # noqa: ANN401
    """Names what the piece does to a Box action, as `ActionDistribution.transform` does."""
    space = piece.input_action_space
    if not isinstance(space, gymnasium.spaces.Box):
        return "none"
    if piece.normalize_actions:
        return "unsquash" if np.all(space.bounded_below) and np.all(space.bounded_above) else "none"
    return "clip" if piece.clip_actions else "none"


def _clip(action: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    return torch.minimum(torch.maximum(action, low), high)


_OBSERVATION_PIECES: dict[type, _Conversion] = {
    env_to_module.MeanStdFilter: _mean_std_filter,
    FlattenObservations: _flatten_observations,
    common.AddObservationsFromEpisodesToBatch: _plumbing,
    common.AddTimeDimToBatchAndZeroPad: _plumbing,
    # Adds something for recurrent modules only, which the exporter refuses.
    common.AddStatesFromEpisodesToBatch: _plumbing,
    common.BatchIndividualItems: _plumbing,
    common.NumpyToTensor: _plumbing,
}

_ACTION_PIECES: dict[type, _Conversion] = {
    AddActionStart: _add_action_start,
    module_to_env.NormalizeAndClipActions: _normalize_and_clip,
    module_to_env.GetActions: _plumbing,
    common.TensorToNumpy: _plumbing,
    module_to_env.UnBatchToIndividualItems: _plumbing,
    module_to_env.RemoveSingleTsTimeRankFromBatch: _plumbing,
    module_to_env.ListifyDataForVectorEnv: _plumbing,
}
