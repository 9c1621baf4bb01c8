from __future__ import annotations

from pathlib import Path

import numpy as np

from services.trainer import greedy
from tests.bundles import write_linear_bundle


def test_every_episode_counts_and_seeds_decide(tmp_path: Path) -> None:
    bundle = write_linear_bundle(tmp_path)
    bundle.spec.environment_id = "CartPole-v1"
    returns = greedy.play(bundle, {}, episodes=6, seed=5)
    assert returns.shape == (6,)
    assert (returns > 0).all()
    np.testing.assert_array_equal(greedy.play(bundle, {}, episodes=6, seed=5), returns)
    # Episode i has the seed 5 + i, whoever plays beside it.
    np.testing.assert_array_equal(greedy.play(bundle, {}, episodes=2, seed=8), returns[3:5])
