"""The connector pieces of a run: what brings observations to what its network takes, and what was chosen besides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete
from ray.rllib.connectors.env_to_module import FlattenObservations, MeanStdFilter
from ray.rllib.connectors.env_to_module.frame_stacking import FrameStackingEnvToModule
from ray.rllib.connectors.env_to_module.prev_actions_prev_rewards import PrevActionsPrevRewards
from ray.rllib.connectors.learner.frame_stacking import FrameStackingLearner

from services.trainer.algorithms.catalogue import Algorithm
from services.trainer.algorithms.own_parts import own_pieces
from services.trainer.environments.environment_spaces import EnvironmentSpaces
from services.trainer.export import action_connectors, observation_connectors
from services.trainer.export.action_fit import FitActions, needs_fitting
from services.trainer.export.counting import CountFromZero, needs_counting
from services.trainer.export.image_scaling import ScaleImages, is_image
from services.trainer.export.nesting import leaves
from steersman.errors import InvalidArgumentError
from steersman.v1 import trainer_pb2

_FRAME_AXES = 3
_FEWEST_FRAMES, _MOST_FRAMES = 2, 64
_LEARN_FROM_FRAGMENTS = frozenset({"PPO", "APPO", "IMPALA"})
"""Algorithms whose batches have the steps before, where the frames before are."""


@dataclass(frozen=True)
class Pieces:
    """Makes a run's connector pieces: anew each time, since each process, and each episode of a dataset, has its own.

    Attributes:
        spaces: The environment's.
        chosen: What the request chose; serialised, since this travels between processes.
        is_own_network: Whether the network is the user's own, which takes what the environment emits, but for bytes.
        has_filters: Whether the settings have filters for convolutions.
    """

    spaces: EnvironmentSpaces
    chosen: bytes
    is_own_network: bool
    has_filters: bool

    @property
    def connectors(self) -> trainer_pb2.Connectors:
        """What the request chose."""
        return trainer_pb2.Connectors.FromString(self.chosen)

    def __call__(self, *_: Any, **__: Any) -> list[Any]:  # noqa: ANN401 - RLlib's signature
        """Makes the pieces before the network.

        RLlib's networks take one axis of numbers; or images, which are bytes of three axes, or any Box if there are
        filters for convolutions.
        """
        chosen = self.connectors
        pieces = own_pieces(chosen.env_to_module)
        space = self._space_behind(pieces)
        if is_image(space):
            pieces.append(ScaleImages())
        axes = len(space.shape or ())
        is_convolved = isinstance(space, Box) and (self.has_filters or (is_image(space) and axes == _FRAME_AXES))
        looks_back = chosen.previous_action or chosen.previous_reward
        if not self.is_own_network and needs_counting(space):
            pieces.append(CountFromZero())
        if looks_back:
            pieces.append(
                PrevActionsPrevRewards(
                    n_prev_actions=int(chosen.previous_action), n_prev_rewards=int(chosen.previous_reward)
                )
            )
        is_numbers = isinstance(space, Box) and axes == 1 and not looks_back
        # RLlib's filter would round integers again.
        is_rounded = chosen.normalize and isinstance(space, Box) and np.dtype(space.dtype).kind != "f"
        if not (self.is_own_network or is_convolved) and (not is_numbers or is_rounded):
            pieces.append(FlattenObservations())
        if chosen.normalize:
            pieces.append(MeanStdFilter())
        if chosen.frame_stack:
            pieces.append(FrameStackingEnvToModule(num_frames=chosen.frame_stack))
        return pieces

    def behind(self, *_: Any, **__: Any) -> list[Any]:  # noqa: ANN401 - RLlib's signature
        """Makes the pieces behind the network."""
        chosen = self.connectors
        pieces = own_pieces(chosen.module_to_env)
        return [*pieces, FitActions(clip=chosen.clip_actions)] if self.fits_actions else pieces

    def learner(self, *_: Any, **__: Any) -> list[Any]:  # noqa: ANN401 - RLlib's signature
        """Makes the pieces of a learner, which sees the stacked frames that the network saw."""
        frames = self.connectors.frame_stack
        return [FrameStackingLearner(num_frames=frames)] if frames else []

    @property
    def fits_actions(self) -> bool:
        """Whether our own piece brings actions into their space, instead of RLlib's."""
        return self.connectors.clip_actions or needs_fitting(self.spaces.action)

    @property
    def network_space(self) -> gymnasium.Space[Any]:
        """Space of what the network sees."""
        return self._space_behind(self())

    def _space_behind(self, pieces: list[Any]) -> gymnasium.Space[Any]:
        space = self.spaces.observation
        for piece in pieces:
            # Only now: RLlib's pieces look at settings that their constructors have not set yet.
            piece.input_action_space, piece.input_observation_space = self.spaces.action, space
            space = piece.observation_space
        return space

    def check(self, algorithm: Algorithm) -> None:
        """Checks that what was chosen goes with the algorithm and the spaces, and can be exported.

        Raises:
            InvalidArgumentError: If it does not go.
            FailedPreconditionError: If a piece of the user's own cannot be exported.
        """
        chosen, action = self.connectors, self.spaces.action
        before = [field.name for field, _ in chosen.ListFields() if field.name not in ("clip_actions", "module_to_env")]
        if before and algorithm.learns_from_recordings:
            raise InvalidArgumentError(
                f"expected no connectors before the network for {algorithm.name}, which learns from single steps of a "
                f"dataset, got {', '.join(before)}"
            )
        if (chosen.previous_action or chosen.previous_reward) and not isinstance(action, Discrete):
            raise InvalidArgumentError(
                f"expected Discrete actions for previous_action and previous_reward, got {action}; use_lstm remembers "
                "whatever the actions are"
            )
        if chosen.clip_actions:
            self._check_clipping(algorithm)
        if chosen.frame_stack:
            self._check_frames(algorithm)
        observation_connectors.check_pieces(self())
        action_connectors.check_pieces(self.behind())
        if chosen.normalize:
            self._check_normalised()
        looks_back = chosen.previous_action or chosen.previous_reward
        is_picture = len(self.spaces.observation.shape or ()) == _FRAME_AXES and is_image(self.spaces.observation)
        if looks_back and not self.is_own_network and is_picture:
            raise InvalidArgumentError(
                "expected observations that are no pictures for previous_action and previous_reward, since RLlib's "
                f"convolutions take nothing besides, got {self.spaces.observation}; use frame_stack or use_lstm"
            )

    def _check_clipping(self, algorithm: Algorithm) -> None:
        if not any(isinstance(part, Box) for _, part in leaves(self.spaces.action)):
            raise InvalidArgumentError(f"expected Box actions for clip_actions, got {self.spaces.action}")
        if algorithm.draws_within_bounds:
            raise InvalidArgumentError(
                f"expected no clip_actions for {algorithm.name}, whose actions are between -1 and 1 and are scaled to "
                "the space's bounds"
            )

    def _check_frames(self, algorithm: Algorithm) -> None:
        space, frames = self.spaces.observation, self.connectors.frame_stack
        if not _FEWEST_FRAMES <= frames <= _MOST_FRAMES:
            raise InvalidArgumentError(
                f"expected a frame_stack of {_FEWEST_FRAMES} to {_MOST_FRAMES} pictures, or 0 for none, got {frames}"
            )
        if algorithm.name not in _LEARN_FROM_FRAGMENTS:
            raise InvalidArgumentError(
                f"expected one of {', '.join(sorted(_LEARN_FROM_FRAGMENTS))} for frame_stack, since others learn from "
                f"single steps without the pictures before, got {algorithm.name}"
            )
        if not (isinstance(space, Box) and len(space.shape) == _FRAME_AXES and space.shape[-1] == 1):
            raise InvalidArgumentError(
                f"expected pictures of shape [height, width, 1] for frame_stack, got {space}; a wrapper can make them "
                'grey, such as gymnasium.wrappers:GrayscaleObservation{"keep_dim": true}, and use_lstm remembers '
                "whatever the observations are"
            )

    def _check_normalised(self) -> None:
        pieces = self()
        upto = next(i for i, piece in enumerate(pieces) if isinstance(piece, MeanStdFilter))
        space = self._space_behind(pieces[:upto])
        if not isinstance(space, Box) or np.dtype(space.dtype).kind != "f":
            raise InvalidArgumentError(
                f"expected observations that are a Box of floats for normalize with a network of your own, got {space}"
            )


def pieces_of(spec: trainer_pb2.RunSpec, spaces: EnvironmentSpaces, *, has_filters: bool) -> Pieces:
    """Gives what makes a run's connector pieces.

    Args:
        spec: The run.
        spaces: The environment's.
        has_filters: Whether the settings have filters for convolutions.
    """
    return Pieces(spaces, spec.connectors.SerializeToString(), bool(spec.module_class), has_filters)
