"""Plays a bundle greedily, in this process: an evaluation that a run may stop on.

A training return is not one: it is a mean over the episodes that happened to end lately, played with exploration by
several sets of weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from services.common.bundle import NEXT_STATE_PREFIX, Bundle
from services.common.episodes import Episode, Limits, Rollout, Step
from services.trainer.environments.watched_environment import make_watched
from steersman import spaces, tensors
from steersman.environments.making import Environment
from steersman.settings import settings
from steersman.v1 import trainer_pb2

_LOOK_EVERY = 64
"""Steps between two looks at whether to stop: each asks Ray."""


@dataclass(frozen=True)
class Played:
    """What came of an evaluation.

    Attributes:
        returns: Of the episodes that were played, by their numbers. Shape (episodes,), float64.
        unfinished: How many had not ended when they were cut, or were not begun any more.
    """

    returns: npt.NDArray[np.float64]
    unfinished: int

    @property
    def mean_return(self) -> float:
        """The mean of the returns, those of episodes that were cut included."""
        return float(self.returns.mean())


def play(
    bundle: Bundle,
    environment: trainer_pb2.Environment,
    evaluation: trainer_pb2.RunEvaluation,
    seed: int,
    stops: Callable[[], bool] = lambda: False,
) -> Played:
    """Plays episodes with the bundle's greedy action.

    Which environment plays which episode is fixed beforehand, so short ones are not favoured.

    Args:
        bundle: The policy.
        environment: What it plays in.
        evaluation: How many episodes, how many side by side, and when they are cut; with the defaults filled in.
        seed: Episode i is reset with seed + i.
        stops: Asked from time to time; once it says so, what is in progress is cut.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(bundle.model_path), options, providers=["CPUExecutionProvider"])
    count = min(evaluation.num_environments, evaluation.episodes)
    policy = _Policy(bundle, session, count)
    environments: list[Environment] = []
    try:
        for _ in range(count):
            environments.append(make_watched(environment, settings().environment_step_seconds))
        limits = Limits(evaluation.longest_episode_steps, evaluation.longest_seconds)
        rollout = Rollout(
            environments,
            range(evaluation.episodes),
            seed,
            # The state that goes in has the rows of the one that came out.
            keep_rows=bool(bundle.spec.state_tensors),
            limits=limits,
        )
        _play(rollout, policy, stops)
    finally:
        for made in environments:
            made.close()  # type: ignore[no-untyped-call] # Gymnasium's signature
    return _played(rollout.episodes, evaluation.episodes)


def _play(rollout: Rollout, policy: _Policy, stops: Callable[[], bool]) -> None:
    rollout.begin()
    steps = 0
    while (step := rollout.asks()) is not None:
        rollout.take(policy.act(step))
        steps += 1
        if steps % _LOOK_EVERY == 0 and stops():
            rollout.stop()


def _played(episodes: list[Episode], asked: int) -> Played:
    returns = [episode.episode_return for episode in sorted(episodes, key=lambda episode: episode.number)]
    return Played(np.array(returns, np.float64), asked - sum(not episode.cut for episode in episodes))


class _Policy:
    """A bundle's greedy actions, with the state of each environment's episode.

    Args:
        bundle: The bundle.
        session: Its model.
        count: How many environments there are.
    """

    def __init__(self, bundle: Bundle, session: onnxruntime.InferenceSession, count: int) -> None:
        spec = bundle.spec
        self._session = session
        self._observation = spaces.layout(spec.observation_space, spaces.OBSERVATION)
        self._action = spaces.layout(spec.action_space, spaces.ACTION)
        self._takes_reward = any(entry.name == spaces.PREVIOUS_REWARD for entry in spec.observation_tensors)
        self._action_names = [entry.name for entry in spec.action_tensors]
        self._states = {
            entry.name: np.zeros((count, *entry.shape), tensors.NUMPY_DTYPES[entry.dtype])
            for entry in spec.state_tensors
        }

    def act(self, step: Step) -> list[Any]:
        """Gives an action for each of a step's observations; with state, there is one for each environment."""
        inputs: dict[str, Any] = dict(spaces.flatten(list(step.observations), self._observation))
        if self._takes_reward:
            inputs[spaces.PREVIOUS_REWARD] = step.rewards
        for name, state in self._states.items():
            state[step.begins] = 0
            inputs[name] = state
        names = self._action_names + [NEXT_STATE_PREFIX + name for name in self._states]
        outputs = dict(zip(names, self._session.run(names, inputs), strict=True))
        self._states = {name: np.array(outputs[NEXT_STATE_PREFIX + name]) for name in self._states}
        return spaces.unbatch(
            spaces.unflatten({name: outputs[name] for name in self._action_names}, self._action), self._action
        )
