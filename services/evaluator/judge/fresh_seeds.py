"""Seeds for the gate: episodes that nobody has trained on or chosen anything by."""

from __future__ import annotations

import secrets
from collections.abc import Iterable

from steersman.v1 import common_pb2

_FIRST = 2**22
"""Below this are the seeds that people choose, and those of the evaluations that a run stops on and chooses by."""

_LAST = 2**31
"""Beyond this not every environment takes a seed: many hand it to something that wants 32 bits."""

_TRAINED = 2**20
"""How many seeds a training may have used; see `TrainedEnvironment.first_seed` in the protos."""


def fresh_seed(specs: Iterable[common_pb2.PolicySpec], episodes: int) -> int:
    """Draws the seed of the first of some episodes, none of which has a seed that a training used.

    Args:
        specs: Of those who are to play.
        episodes: How many follow each other.
    """
    trained = [spec.environment.first_seed for spec in specs if spec.environment.HasField("first_seed")]
    while True:
        seed = _FIRST + secrets.randbelow(_LAST - _FIRST - episodes)
        # Sequences of seeds that do not overlap, either of which may begin first.
        if all(seed + episodes <= first or first + _TRAINED <= seed for first in trained):
            return seed
