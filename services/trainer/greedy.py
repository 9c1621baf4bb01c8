"""Plays a bundle greedily, in this process: an evaluation that a run may stop on.

A training return is not one: it is a mean over the episodes that happened to end lately, played with exploration by
several sets of weights.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import onnxruntime

from services.common.bundle import Bundle
from steersman import spaces


def play(bundle: Bundle, environment_kwargs: dict[str, Any], episodes: int, seed: int) -> npt.NDArray[np.float64]:
    """Plays episodes with the bundle's greedy action.

    Every episode has an environment of its own, so short ones are not favoured; returns are sums of raw rewards.

    Args:
        bundle: The policy; its environment is made from its spec.
        environment_kwargs: Keyword arguments for `gymnasium.make`.
        episodes: How many.
        seed: Episode i is reset with seed + i.

    Returns:
        The returns, float64, shape (episodes,).
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(bundle.model_path), options, providers=["CPUExecutionProvider"])
    environments = [gymnasium.make(bundle.spec.environment_id, **environment_kwargs) for _ in range(episodes)]
    try:
        observations = [environment.reset(seed=seed + i)[0] for i, environment in enumerate(environments)]
        returns = np.zeros(episodes, np.float64)
        playing = list(range(episodes))
        while playing:
            batch = np.stack([observations[i] for i in playing])
            (actions,) = session.run([spaces.ACTION], {spaces.OBSERVATION: batch})
            for i, action in zip(tuple(playing), actions, strict=True):
                observations[i], reward, terminated, truncated, _ = environments[i].step(action)
                returns[i] += float(reward)
                if terminated or truncated:
                    playing.remove(i)
        return returns
    finally:
        for environment in environments:
            environment.close()  # type: ignore[no-untyped-call] # Gymnasium's signature
