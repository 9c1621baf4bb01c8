"""What a request says of how its run plays what it has learnt, checked and with the defaults filled in."""

from __future__ import annotations

import math

from steersman.errors import InvalidArgumentError
from steersman.v1 import trainer_pb2

EPISODES = 20
MOST_EPISODES = 10_000
MOST_ENVIRONMENTS = 1024

_ENVIRONMENTS = 64
_LONGEST_EPISODE_STEPS = 30_000
"""More than what any of Gymnasium's and Atari's own time limits allow (27,000 steps of four pictures)."""

_LONGEST_SECONDS = 900.0


def complete_evaluation(evaluation: trainer_pb2.RunEvaluation) -> trainer_pb2.RunEvaluation:
    """Fills in the defaults.

    Raises:
        InvalidArgumentError: If a number makes no sense.
    """
    episodes = evaluation.episodes if evaluation.HasField("episodes") else EPISODES
    if not 1 <= episodes <= MOST_EPISODES:
        raise InvalidArgumentError(f"expected 1 to {MOST_EPISODES} evaluation.episodes, got {episodes}")
    if evaluation.num_environments > MOST_ENVIRONMENTS:
        raise InvalidArgumentError(
            f"expected at most {MOST_ENVIRONMENTS} evaluation.num_environments, got {evaluation.num_environments}"
        )
    if not (math.isfinite(evaluation.longest_seconds) and evaluation.longest_seconds >= 0):
        raise InvalidArgumentError(
            f"expected evaluation.longest_seconds of at least 0, got {evaluation.longest_seconds}"
        )
    return trainer_pb2.RunEvaluation(
        episodes=episodes,
        num_environments=min(evaluation.num_environments or _ENVIRONMENTS, episodes),
        longest_episode_steps=evaluation.longest_episode_steps or _LONGEST_EPISODE_STEPS,
        longest_seconds=evaluation.longest_seconds or _LONGEST_SECONDS,
        every_iterations=evaluation.every_iterations,
    )
