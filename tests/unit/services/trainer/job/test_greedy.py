from __future__ import annotations

from pathlib import Path

import numpy as np

from services.trainer.job import greedy
from steersman.v1.trainer_pb2 import Environment
from tests.bundles import write_linear_bundle

ENVIRONMENT = Environment(id="CartPole-v1")


def test_every_episode_counts_and_seeds_decide(tmp_path: Path) -> None:
    bundle = write_linear_bundle(tmp_path)
    returns = greedy.play(bundle, ENVIRONMENT, episodes=6, seed=5)
    assert returns.shape == (6,)
    assert (returns > 0).all()
    np.testing.assert_array_equal(greedy.play(bundle, ENVIRONMENT, episodes=6, seed=5), returns)
    # Episode i has the seed 5 + i, whoever plays beside it.
    np.testing.assert_array_equal(greedy.play(bundle, ENVIRONMENT, episodes=2, seed=8), returns[3:5])
