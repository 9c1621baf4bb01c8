"""The connector pieces that bring observations to what RLlib's networks take."""

from __future__ import annotations

from typing import Any

import gymnasium
from ray.rllib.connectors.env_to_module import FlattenObservations

from services.trainer.export.image_scaling import ScaleImages, is_image


def observation_pieces(space: gymnasium.Space[Any], *, is_own_network: bool, has_filters: bool) -> list[Any]:
    """Makes the pieces.

    RLlib's networks take one axis of numbers; or images, which are bytes of three axes, or any Box if there are filters
    for convolutions. A network of the user's own takes what the environment emits, but for bytes.

    Args:
        space: What the environment emits.
        is_own_network: Whether the network is the user's own.
        has_filters: Whether the settings have filters for convolutions.
    """
    pieces: list[Any] = []
    if is_image(space):
        pieces.append(ScaleImages())
    axes = len(space.shape or ())
    is_numbers = isinstance(space, gymnasium.spaces.Box) and axes == 1
    is_convolved = isinstance(space, gymnasium.spaces.Box) and (has_filters or (is_image(space) and axes == 3))
    if not (is_numbers or is_convolved or is_own_network):
        pieces.append(FlattenObservations())
    return pieces


def space_behind(
    pieces: list[Any], observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]
) -> gymnasium.Space[Any]:
    """Gives the space of what comes out of pieces.

    Args:
        pieces: The pieces, in their order.
        observation_space: Of what goes in.
        action_space: The environment's.
    """
    for piece in pieces:
        # Only now: RLlib's pieces look at settings that their constructors have not set yet.
        piece.input_action_space, piece.input_observation_space = action_space, observation_space
        observation_space = piece.observation_space
    return observation_space
