"""RLlib's env-to-module connector pieces as torch functions, for the exported graph.

Each function does the same arithmetic in the same order and precision as the piece that it stands for, so that the
graph answers what RLlib would. A piece that is not known here is refused by name: leaving one out would give a policy
that acts on something else than it was trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import torch
from ray.rllib.connectors import common, env_to_module
from ray.rllib.connectors.common.flatten_observations import FlattenObservations
from ray.rllib.connectors.common.frame_stacking import FrameStacking
from ray.rllib.connectors.env_to_module.prev_actions_prev_rewards import PrevActionsPrevRewards
from ray.rllib.utils.filter import SMALL_NUMBER

from services.trainer.export.counting import CountFromZero
from services.trainer.export.image_scaling import LARGEST, ScaleImages
from services.trainer.export.memory import FRAMES, PREVIOUS_ACTIONS, PREVIOUS_REWARDS, Memory, StateTensor
from services.trainer.export.nesting import Nested
from steersman.errors import FailedPreconditionError

_Apply = Callable[[Nested, Memory], Nested]


@dataclass(frozen=True)
class ObservationStep:
    """What one connector piece does.

    Attributes:
        apply: Maps a batch of observations to another one; may look into the memory and write what it remembers.
        states: What it remembers.
        takes_reward: Whether it needs the reward of the step before.
    """

    apply: _Apply
    states: tuple[StateTensor, ...] = ()
    takes_reward: bool = False


def observation_steps(pipeline: Any) -> list[ObservationStep]:  # noqa: ANN401 - RLlib has no types
    """Turns an env-to-module pipeline into the steps from a raw observation to what the module takes.

    Args:
        pipeline: RLlib's `EnvToModulePipeline`.

    Returns:
        The steps, in order.

    Raises:
        FailedPreconditionError: If a piece cannot be exported.
    """
    # Not isinstance: a subclass may compute anything.
    pieces = [piece for piece in pipeline.connectors if type(piece) not in _PLUMBING]
    check_pieces(pieces)
    if [type(piece) for piece in pieces[-2:]] == [ScaleImages, FrameStacking]:
        # Stacked before they are scaled, so that what is remembered is bytes: equal, since empty frames are 0.
        *others, scaling, stacking = pieces
        steps = [_CONVERSIONS[type(piece)](piece) for piece in others]
        return [*steps, _frame_stacking(stacking, np.uint8), _scale_images(scaling)]
    return [_CONVERSIONS[type(piece)](piece) for piece in pieces]


def check_pieces(pieces: list[Any]) -> None:
    """Checks that pieces can be exported, as far as their kinds and their order tell.

    Raises:
        FailedPreconditionError: If one cannot.
    """
    for piece in pieces:
        if type(piece) not in _CONVERSIONS:
            supported = ", ".join(sorted(kind.__name__ for kind in _CONVERSIONS))
            raise FailedPreconditionError(
                f"cannot export the env-to-module connector piece {type(piece).__name__}: expected only {supported} "
                "besides RLlib's default pieces; train without it, do what it does in a wrapper of the environment, "
                "or write its arithmetic in services/trainer/export/observation_connectors.py"
            )
    for place, piece in enumerate(pieces):
        if type(piece) is FrameStacking and place != len(pieces) - 1:
            # It hands the stack past the pieces behind it, which go on changing single frames that nobody looks at.
            raise FailedPreconditionError(
                f"cannot export {type(pieces[place + 1]).__name__} behind FrameStacking: RLlib ignores what it does; "
                "put FrameStacking last"
            )


def _mean_std_filter(piece: Any) -> ObservationStep:  # noqa: ANN401
    """Normalises with the statistics that the filter has now: frozen, where RLlib's own goes on learning."""
    space = piece.input_observation_space
    # RLlib's filter itself takes nothing else, and rounds what it does to integers.
    if not isinstance(space, gymnasium.spaces.Box) or np.dtype(space.dtype).kind != "f":
        raise FailedPreconditionError(
            f"cannot export MeanStdFilter for {space}: expected a Box of floats; put FlattenObservations before it"
        )
    frozen = piece._filters[None]  # noqa: SLF001 - the only place where the statistics are
    # Copies: the filter changes its arrays in place.
    mean = torch.tensor(np.asarray(frozen.running_stats.mean, np.float64))
    # RLlib keeps the mean in float64 and the deviation in float32, and the quotient is float64.
    deviation = torch.tensor(np.asarray(frozen.running_stats.std + SMALL_NUMBER, np.float64))
    demean, scale, limit = bool(frozen.demean), bool(frozen.destd), frozen.clip

    def normalise(observation: torch.Tensor, _: Memory) -> torch.Tensor:
        values = observation.to(torch.float64)
        if demean:
            values = values - mean
        if scale:
            values = values / deviation
        if limit:
            values = torch.clamp(values, -limit, limit)
        return values.to(observation.dtype)

    return ObservationStep(normalise)


def _flatten_observations(piece: Any) -> ObservationStep:  # noqa: ANN401
    """Joins all parts in one row of float32: integers as one-hot vectors, all else as it is."""
    parts = piece._input_obs_base_struct  # noqa: SLF001 - the spaces that are left after `keys_to_remove`
    for space in _spaces_in_order(parts):
        _check_flattens(space)
    return ObservationStep(lambda observation, _: torch.cat(list(_rows(parts, observation)), dim=-1))


def _spaces_in_order(parts: Any) -> Iterator[gymnasium.Space[Any]]:  # noqa: ANN401
    if isinstance(parts, dict):
        for key in sorted(parts):
            yield from _spaces_in_order(parts[key])
    elif isinstance(parts, tuple):
        for part in parts:
            yield from _spaces_in_order(part)
    else:
        yield parts


def _check_flattens(space: gymnasium.Space[Any]) -> None:
    starts_elsewhere = isinstance(space, gymnasium.spaces.Discrete | gymnasium.spaces.MultiDiscrete) and np.any(
        space.start
    )
    if starts_elsewhere or (isinstance(space, gymnasium.spaces.MultiDiscrete) and len(space.shape) != 1):
        raise FailedPreconditionError(
            f"cannot export FlattenObservations for {space}: expected integers that start at 0, in one axis, as RLlib "
            "takes them"
        )


def _rows(parts: Any, observation: Nested) -> Iterator[torch.Tensor]:  # noqa: ANN401
    if isinstance(parts, dict):
        for key in sorted(parts):
            yield from _rows(parts[key], observation[key])
    elif isinstance(parts, tuple):
        for part, value in zip(parts, observation, strict=True):
            yield from _rows(part, value)
    elif isinstance(parts, gymnasium.spaces.Discrete):
        yield _one_hot(observation, int(parts.n))
    elif isinstance(parts, gymnasium.spaces.MultiDiscrete):
        for place, count in enumerate(parts.nvec):
            yield _one_hot(observation[:, place], int(count))
    else:
        yield observation.reshape(observation.shape[0], -1).to(torch.float32)


def _one_hot(values: torch.Tensor, count: int) -> torch.Tensor:
    """Makes one-hot rows, float32; of zeros for a value out of range."""
    return (values.unsqueeze(-1) == torch.arange(count)).to(torch.float32)


def _frame_stacking(piece: Any, dtype: npt.DTypeLike | None = None) -> ObservationStep:  # noqa: ANN401
    """Joins the last frames along the last axis; frames before the episode's first are zeros."""
    remembered = int(piece.num_frames) - 1
    space = piece.input_observation_space
    frames = StateTensor(FRAMES, dtype or space.dtype, (*space.shape[:-1], remembered))

    def stack(observation: torch.Tensor, memory: Memory) -> torch.Tensor:
        stacked = torch.cat([memory.before[FRAMES], observation], dim=-1)
        memory.after[FRAMES] = stacked[..., 1:]
        return stacked

    return ObservationStep(stack, (frames,))


def _count_from_zero(piece: Any) -> ObservationStep:  # noqa: ANN401
    space = piece.input_observation_space
    return ObservationStep(lambda observation, _: _counted(space, observation))


def _counted(space: gymnasium.Space[Any], observation: Nested) -> Nested:
    if isinstance(space, gymnasium.spaces.Dict):
        return {key: _counted(part, observation[key]) for key, part in space.spaces.items()}
    if isinstance(space, gymnasium.spaces.Tuple):
        return tuple(_counted(part, value) for part, value in zip(space.spaces, observation, strict=True))
    if isinstance(space, gymnasium.spaces.Discrete):
        return observation.to(torch.int64) - int(space.start)
    if isinstance(space, gymnasium.spaces.MultiDiscrete):
        return (observation.to(torch.int64) - torch.as_tensor(space.start, dtype=torch.int64)).flatten(start_dim=1)
    return observation


def _scale_images(_piece: Any) -> ObservationStep:  # noqa: ANN401
    largest = torch.tensor(LARGEST)
    return ObservationStep(lambda observation, _: observation.to(torch.float32) / largest)


def _previous_actions_and_rewards(piece: Any) -> ObservationStep:  # noqa: ANN401
    """Adds the last actions, one-hot, and the last rewards; zeros before the episode's first step."""
    actions, rewards = int(piece.n_prev_actions), int(piece.n_prev_rewards)
    if actions and not isinstance(piece.input_action_space, gymnasium.spaces.Discrete):
        raise FailedPreconditionError(
            f"cannot export PrevActionsPrevRewards with actions of {piece.input_action_space}: expected Discrete"
        )
    states = []
    if actions:
        states.append(StateTensor(PREVIOUS_ACTIONS, np.int64, (actions,)))
    if rewards > 1:
        states.append(StateTensor(PREVIOUS_REWARDS, np.float32, (rewards - 1,)))

    def augment(observation: Nested, memory: Memory) -> Nested:
        augmented = {piece.ORIG_OBS_KEY: observation}
        if actions:
            # Actions are remembered plus one, so that 0, "there was none", becomes a row of zeros.
            rows = _one_hot(memory.before[PREVIOUS_ACTIONS] - 1, int(piece.input_action_space.n))
            augmented[piece.PREV_ACTIONS_KEY] = rows.flatten(start_dim=1)
        else:
            # RLlib leaves it out, but has it in the space, with no numbers.
            augmented[piece.PREV_ACTIONS_KEY] = _nothing(observation)
        if rewards:
            assert memory.previous_reward is not None  # noqa: S101 - `takes_reward` asks for it
            last = memory.previous_reward.unsqueeze(-1)
            if rewards > 1:
                last = torch.cat([memory.before[PREVIOUS_REWARDS], last], dim=-1)
                memory.after[PREVIOUS_REWARDS] = last[:, 1:]
            augmented[piece.PREV_REWARDS_KEY] = last
        else:
            augmented[piece.PREV_REWARDS_KEY] = _nothing(observation)
        return augmented

    return ObservationStep(augment, tuple(states), takes_reward=rewards > 0)


def _nothing(observation: Nested) -> torch.Tensor:
    """Gives rows without numbers, as many as there are observations."""
    while isinstance(observation, dict | tuple):
        observation = next(iter(observation.values() if isinstance(observation, dict) else observation))
    return observation.reshape(observation.shape[0], -1)[:, :0].to(torch.float32)


_CONVERSIONS: dict[type, Callable[[Any], ObservationStep]] = {
    env_to_module.MeanStdFilter: _mean_std_filter,
    CountFromZero: _count_from_zero,
    FlattenObservations: _flatten_observations,
    FrameStacking: _frame_stacking,
    ScaleImages: _scale_images,
    PrevActionsPrevRewards: _previous_actions_and_rewards,
}

# Pieces that only move data between RLlib's own containers.
_PLUMBING = frozenset(
    {
        common.AddObservationsFromEpisodesToBatch,
        common.AddTimeDimToBatchAndZeroPad,
        common.AddStatesFromEpisodesToBatch,
        common.BatchIndividualItems,
        common.NumpyToTensor,
    }
)
