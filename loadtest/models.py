"""The policy of the autoscaling scenario: large enough that a replica is soon full."""

from __future__ import annotations

from pathlib import Path

from bench.models import write_cartpole
from services.common.bundle import Bundle

POLICY = "wide-random-mlp"
"""Its weights are random: it plays nothing well, it only takes time."""

_HIDDEN = (2048,) * 4


def write_wide_mlp(folder: Path) -> Bundle:
    """Writes a policy of CartPole's spaces with a wide multilayer perceptron of random weights."""
    return write_cartpole(folder, hidden=_HIDDEN)
