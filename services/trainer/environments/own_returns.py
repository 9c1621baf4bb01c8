"""Training returns of what the environment itself gave, where wrappers change rewards."""

from __future__ import annotations

import math
from typing import Any

from ray.rllib.callbacks.callbacks import RLlibCallback

from steersman.environments.raw_rewards import RAW_RETURN

OWN_RETURN_MEAN = "steersman_own_return_mean"
"""The mean's name among RLlib's metrics of env runners; there only where there are wrappers."""


class OwnReturns(RLlibCallback):  # type: ignore[misc] # RLlib has no types
    """Logs the sums of the environment's own rewards: RLlib's own mean is of what came out of the wrappers."""

    def on_episode_end(self, *, episode: Any, env_runner: Any, metrics_logger: Any, **_: Any) -> None:  # noqa: ANN401
        """Logs the return of an episode, over as many as RLlib's own mean is of."""
        own = (episode.get_infos(-1) or {}).get(RAW_RETURN)
        if own is not None:
            config = env_runner.config
            window = math.ceil(config.metrics_num_episodes_for_smoothing / (config.num_env_runners or 1))
            metrics_logger.log_value(OWN_RETURN_MEAN, float(own), window=max(1, window))
