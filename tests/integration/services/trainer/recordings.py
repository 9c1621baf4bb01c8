"""Episodes of a random policy, recorded for algorithms that learn from such."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.integration.services.trainer import unusual_environments
from tests.integration.services.trainer.combinations import Combination

EPISODES = 20


def record(combination: Combination, folder: Path) -> Path:
    """Records episodes in the columns that RLlib reads by default.

    Args:
        combination: Tells the spaces.
        folder: Where to; made if it does not exist.
    """
    environment = gymnasium.make(
        unusual_environments.ANY, observation_space=combination.observations, action_space=combination.actions
    )
    environment.action_space.seed(0)
    columns: dict[str, list[object]] = {
        name: [] for name in ("eps_id", "obs", "actions", "rewards", "new_obs", "terminateds", "truncateds")
    }
    for episode in range(EPISODES):
        observation, _ = environment.reset(seed=episode)
        ended = False
        while not ended:
            action = environment.action_space.sample()
            following, reward, terminated, truncated, _ = environment.step(action)
            row = (str(episode), observation, action, float(reward), following, terminated, truncated)
            for name, value in zip(columns, row, strict=True):
                columns[name].append(value.tolist() if isinstance(value, np.ndarray | np.generic) else value)
            observation, ended = following, terminated or truncated
    folder.mkdir(parents=True)
    pq.write_table(pa.table(columns), folder / "episodes.parquet")
    return folder
