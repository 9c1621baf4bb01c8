"""Plays a bundle greedily, in this process: an evaluation that a run may stop on.

A training return is not one: it is a mean over the episodes that happened to end lately, played with exploration by
several sets of weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from services.common.bundle import NEXT_STATE_PREFIX, Bundle
from services.common.raw_rewards import RAW_REWARD
from services.trainer.environments.watched_environment import make_watched
from steersman import spaces, tensors
from steersman.settings import settings
from steersman.v1 import trainer_pb2


def play(bundle: Bundle, environment: trainer_pb2.Environment, episodes: int, seed: int) -> npt.NDArray[np.float64]:
    """Plays episodes with the bundle's greedy action.

    Every episode has an environment of its own, so short ones are not favoured; returns are sums of raw rewards.

    Args:
        bundle: The policy.
        environment: What it plays in.
        episodes: How many.
        seed: Episode i is reset with seed + i.

    Returns:
        The returns, float64, shape (episodes,).
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(bundle.model_path), options, providers=["CPUExecutionProvider"])
    policy = _Policy(bundle, session, episodes)
    environments = [make_watched(environment, settings().environment_step_seconds) for _ in range(episodes)]
    try:
        observations = [made.reset(seed=seed + i)[0] for i, made in enumerate(environments)]
        returns = np.zeros(episodes, np.float64)
        rewards = np.zeros(episodes, np.float32)
        playing = list(range(episodes))
        while playing:
            actions = policy.act([observations[i] for i in playing], rewards[playing], playing)
            for i, action in zip(tuple(playing), actions, strict=True):
                observations[i], reward, terminated, truncated, info = environments[i].step(action)
                rewards[i] = float(reward)
                returns[i] += info.get(RAW_REWARD, reward)
                if terminated or truncated:
                    playing.remove(i)
        return returns
    finally:
        for made in environments:
            made.close()  # type: ignore[no-untyped-call] # Gymnasium's signature


class _Policy:
    """A bundle's greedy actions, with the state of each episode.

    Args:
        bundle: The bundle.
        session: Its model.
        episodes: How many episodes there are.
    """

    def __init__(self, bundle: Bundle, session: onnxruntime.InferenceSession, episodes: int) -> None:
        spec = bundle.spec
        self._session = session
        self._observation = spaces.layout(spec.observation_space, spaces.OBSERVATION)
        self._action = spaces.layout(spec.action_space, spaces.ACTION)
        self._takes_reward = any(entry.name == spaces.PREVIOUS_REWARD for entry in spec.observation_tensors)
        self._action_names = [entry.name for entry in spec.action_tensors]
        self._states = {
            entry.name: np.zeros((episodes, *entry.shape), tensors.NUMPY_DTYPES[entry.dtype])
            for entry in spec.state_tensors
        }

    def act(self, observations: list[Any], rewards: npt.NDArray[np.float32], episodes: list[int]) -> list[Any]:
        """Gives an action for each of some episodes.

        Args:
            observations: One for each of these episodes.
            rewards: Of the step before, likewise.
            episodes: Which episodes they are.
        """
        inputs: dict[str, Any] = dict(spaces.flatten(observations, self._observation))
        if self._takes_reward:
            inputs[spaces.PREVIOUS_REWARD] = rewards
        inputs |= {name: state[episodes] for name, state in self._states.items()}
        names = self._action_names + [NEXT_STATE_PREFIX + name for name in self._states]
        outputs = dict(zip(names, self._session.run(names, inputs), strict=True))
        for name, state in self._states.items():
            state[episodes] = outputs[NEXT_STATE_PREFIX + name]
        return spaces.unbatch(
            spaces.unflatten({name: outputs[name] for name in self._action_names}, self._action), self._action
        )
