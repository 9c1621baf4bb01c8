"""What section `train` compares: three ways to learn CartPole, each in a process of its own.

    python -m bench.train_systems SYSTEM SEED

Prints a line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, Protocol

# One thread for arithmetic, as Ray gives its workers: networks are small, and a thread more costs more than it brings.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import gymnasium
import numpy as np
import numpy.typing as npt

ENVIRONMENT = "CartPole-v1"
WANTED = 450.0
EPISODES = 20
EVALUATE_EVERY_SECONDS = 1.0
LONGEST_SECONDS = 240.0


class Learner(Protocol):
    """Something that learns CartPole."""

    def advance(self) -> None:
        """Trains a piece."""

    def act(self, observations: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """Gives greedy actions, (batch,), for observations, (batch, 4)."""

    @property
    def steps(self) -> int:
        """Environment steps so far."""


class RllibLearner:
    """One of RLlib's algorithms.

    Args:
        config: Its config.
    """

    def __init__(self, config: Any) -> None:  # noqa: ANN401 - RLlib has no types
        import ray
        from ray.tune.trainable import trainable

        trainable.DEFAULT_STORAGE_PATH = tempfile.mkdtemp(prefix="steersman-bench-")
        ray.init(
            address="local", num_cpus=4, include_dashboard=False, _node_ip_address="127.0.0.1", log_to_driver=False
        )
        self._algorithm = config.build_algo()
        self._steps = 0

    def advance(self) -> None:
        """Trains for an iteration."""
        self._steps = int(self._algorithm.train()["num_env_steps_sampled_lifetime"])

    def act(self, observations: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """Gives greedy actions; see `Learner.act`."""
        import torch

        with torch.inference_mode():
            outputs = self._algorithm.get_module().forward_inference({"obs": torch.from_numpy(observations)})
        return np.asarray(outputs["action_dist_inputs"].argmax(1).numpy(), np.int64)

    @property
    def steps(self) -> int:
        """Environment steps so far."""
        return self._steps


def steersman(seed: int) -> Learner:
    """PPO with Steersman's defaults."""
    from services.trainer.algorithms import build_config
    from services.trainer.api import validation
    from steersman.v1.trainer_pb2 import Environment, RunSpec, StopCriteria

    asked = RunSpec(
        policy="bench",
        environment=Environment(id=ENVIRONMENT),
        algorithm="PPO",
        seed=seed,
        stop=StopCriteria(episode_return=WANTED),
    )
    spec, _ = validation.complete(asked)
    return RllibLearner(build_config(spec))


def rllib_example(seed: int) -> Learner:
    """RLlib's tuned example: rllib/examples/algorithms/ppo/cartpole_ppo.py of Ray 2.60."""
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

    model = DefaultModelConfig(fcnet_hiddens=[32], fcnet_activation="linear", vf_share_layers=True)
    return RllibLearner(
        PPOConfig()
        .environment(ENVIRONMENT)
        .env_runners(num_env_runners=1, num_envs_per_env_runner=16)
        .training(lr=0.0003, num_epochs=6, vf_loss_coeff=0.01)
        .rl_module(model_config=model)
        .debugging(seed=seed)
    )


class Sb3Learner:
    """Stable-Baselines3's PPO.

    Args:
        seed: The seed.
        environments: How many it steps side by side.
        settings: Of its PPO.
    """

    _TOTAL = 100_000

    def __init__(self, seed: int, environments: int = 1, **settings: Any) -> None:  # noqa: ANN401 - its own
        import torch
        from stable_baselines3 import PPO
        from stable_baselines3.common.env_util import make_vec_env

        torch.set_num_threads(1)
        vector = make_vec_env(ENVIRONMENT, n_envs=environments, seed=seed)
        self._model = PPO("MlpPolicy", vector, seed=seed, device="cpu", **settings)
        self._began = False

    def advance(self) -> None:
        """Trains for about 2,000 steps."""
        # What schedules count towards stays the same; learn() itself returns after each piece: at the first step behind
        # it, since a step earlier the last rollout would go without its update.
        from stable_baselines3.common.callbacks import ConvertCallback

        limit = self._model.num_timesteps + 2048
        self._model.learn(
            self._TOTAL,
            callback=ConvertCallback(lambda *_: self._model.num_timesteps <= limit),
            reset_num_timesteps=not self._began,
        )
        self._began = True

    def act(self, observations: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """Gives greedy actions; see `Learner.act`."""
        actions, _ = self._model.predict(observations, deterministic=True)
        return np.asarray(actions, np.int64)

    @property
    def steps(self) -> int:
        """Environment steps so far."""
        return int(self._model.num_timesteps)


def sb3_zoo(seed: int) -> Learner:
    """Stable-Baselines3's PPO with RL Zoo's settings for CartPole: hyperparams/ppo.yml."""
    return Sb3Learner(
        seed,
        environments=8,
        n_steps=32,
        batch_size=256,
        gae_lambda=0.8,
        gamma=0.98,
        n_epochs=20,
        ent_coef=0.0,
        learning_rate=lambda left: left * 0.001,
        clip_range=lambda left: left * 0.2,
    )


SYSTEMS: dict[str, Callable[[int], Learner]] = {
    "steersman": steersman,
    "rllib-example": rllib_example,
    "sb3": Sb3Learner,
    "sb3-zoo": sb3_zoo,
}


def greedy_return(act: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.int64]]) -> float:
    """Gives the mean return over episodes with fixed seeds, side by side, each in an environment of its own."""
    environments = [gymnasium.make(ENVIRONMENT) for _ in range(EPISODES)]
    observations = [environment.reset(seed=10_000 + i)[0] for i, environment in enumerate(environments)]
    playing, total = list(range(EPISODES)), 0.0
    while playing:
        actions = act(np.stack([observations[i] for i in playing]).astype(np.float32))
        for i, action in zip(tuple(playing), actions, strict=True):
            observations[i], reward, terminated, truncated, _ = environments[i].step(int(action))
            total += float(reward)
            if terminated or truncated:
                playing.remove(i)
    return total / EPISODES


def measure(learner: Learner) -> dict[str, float]:
    """Trains until it returns what is wanted; the clock stands still while it is evaluated.

    Raises:
        RuntimeError: If that takes too long.
    """
    trained, evaluated_at = 0.0, 0.0
    while trained < LONGEST_SECONDS:
        began = time.perf_counter()
        learner.advance()
        trained += time.perf_counter() - began
        if trained - evaluated_at >= EVALUATE_EVERY_SECONDS:
            evaluated_at = trained
            if greedy_return(learner.act) >= WANTED:
                return {
                    "seconds_to_450": trained,
                    "steps_to_450": learner.steps,
                    "steps_per_s": learner.steps / trained,
                }
    raise RuntimeError(f"expected a return of {WANTED:g} within {LONGEST_SECONDS:g} s of training")


if __name__ == "__main__":
    print(json.dumps(measure(SYSTEMS[sys.argv[1]](int(sys.argv[2])))))  # noqa: T201 - the answer
