"""The algorithms that can be trained, each with defaults that learn on a small machine."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium

from services.trainer.export.action_fit import is_bounded
from steersman.errors import InvalidArgumentError
from steersman.quoting import quoted


@dataclass(frozen=True, eq=False)
class Algorithm:
    """One of RLlib's algorithms, on its new API stack.

    Attributes:
        name: RLlib's name.
        defaults: What Steersman sets where a request does not. All else is RLlib's default.
        actions: The kind of action space that it is for; None for any that can be exported.
        instead: What to use for other action spaces.
        learning_rates: The settings that are learning rates.
        num_env_runners: Processes that sample, where a request does not say: the trial itself does. On a small machine
            others take longer to start than they save, and their episodes longer to travel than to play.
        num_envs_per_env_runner: Environments in each of them, where a request does not say.
        learns_from_recordings: Whether it learns from a dataset instead of sampling the environment.
        draws_within_bounds: Whether it draws actions between -1 and 1, so that the space needs bounds to scale them to.
    """

    name: str
    defaults: dict[str, Any]
    actions: type[gymnasium.Space[Any]] | None = None
    instead: str = ""
    learning_rates: tuple[str, ...] = ("lr",)
    num_env_runners: int = 0
    num_envs_per_env_runner: int = 32
    learns_from_recordings: bool = False
    draws_within_bounds: bool = False

    def make_config(self) -> Any:  # noqa: ANN401 - RLlib has no types
        """Makes RLlib's config, with RLlib's defaults."""
        return getattr(self._module, f"{self.name}Config")()

    @property
    def algorithm_class(self) -> Any:  # noqa: ANN401
        """RLlib's class."""
        return getattr(self._module, self.name)

    @property
    def _module(self) -> Any:  # noqa: ANN401
        # Only when it is needed: each takes a while.
        return importlib.import_module(f"ray.rllib.algorithms.{self.name.lower()}")

    def check_action_space(self, space: gymnasium.Space[Any]) -> None:
        """Checks that the algorithm is one for an environment's actions.

        Raises:
            InvalidArgumentError: If it is not; says what to use.
        """
        if self.actions is not None and not isinstance(space, self.actions):
            raise InvalidArgumentError(
                f"expected an environment with {self.actions.__name__} actions for {self.name}, got {space}; "
                f"use {self.instead} instead"
            )
        if self.draws_within_bounds and not (isinstance(space, gymnasium.spaces.Box) and is_bounded(space)):
            # Its greedy action would lie outside of what its draws can reach.
            raise InvalidArgumentError(
                f"expected actions with finite bounds for {self.name}, which scales them from -1 to 1, got {space}; "
                f"use {self.instead} instead, or a wrapper of your own that bounds its action_space"
            )


_NETWORK: dict[str, Any] = {"fcnet_hiddens": [64, 64], "fcnet_activation": "tanh"}
_TWO_NETWORKS = _NETWORK | {
    # Shared layers make the critic's loss drown the policy's.
    "vf_share_layers": False,
}
_ACTOR_AND_CRITICS: dict[str, Any] = {"fcnet_hiddens": [64, 64], "fcnet_activation": "relu", "head_fcnet_hiddens": []}
# RLlib's own default, a prioritised buffer, costs more time on a small machine than it saves steps.
_REPLAY = {"type": "EpisodeReplayBuffer", "capacity": 100_000}

_SAC: dict[str, Any] = _ACTOR_AND_CRITICS | {
    # RLlib takes its time for every step of a batch, so batches are small and steps are large.
    "actor_lr": 2e-3,
    "critic_lr": 2e-3,
    "alpha_lr": 2e-3,
    "gamma": 0.99,
    "tau": 0.005,
    "train_batch_size_per_learner": 64,
    "num_steps_sampled_before_learning_starts": 500,
    "replay_buffer_config": _REPLAY,
    "min_sample_timesteps_per_iteration": 500,
    "min_time_s_per_iteration": 0,
}
_CONTINUOUS: dict[str, Any] = {
    "actions": gymnasium.spaces.Box,
    "draws_within_bounds": True,
    "learning_rates": ("actor_lr", "critic_lr", "alpha_lr"),
    # One update for each step, so there is nothing to gain from sampling ahead.
    "num_envs_per_env_runner": 1,
}
_RECORDINGS: dict[str, Any] = {"learns_from_recordings": True, "num_envs_per_env_runner": 1}

_ALL = (
    Algorithm(
        "PPO",
        _TWO_NETWORKS
        | {
            # RLlib clips the critic's loss at 10 by default, which silences it where returns are in the hundreds; and
            # its extra penalty on the policy's divergence only slows down what the clipped objective bounds already.
            "lr": 1e-3,
            "gamma": 0.99,
            "lambda_": 0.95,
            "clip_param": 0.2,
            "vf_clip_param": 10_000.0,
            "use_kl_loss": False,
            "kl_coeff": 0.0,
            "train_batch_size_per_learner": 2048,
            "minibatch_size": 256,
            "num_epochs": 8,
        },
    ),
    Algorithm(
        "APPO",
        _TWO_NETWORKS
        | {
            "lr": 1e-3,
            "gamma": 0.99,
            "train_batch_size_per_learner": 512,
            "vf_loss_coeff": 0.05,
            "entropy_coeff": 0.0,
            "min_time_s_per_iteration": 2,
        },
    ),
    Algorithm(
        "IMPALA",
        _TWO_NETWORKS
        | {
            "lr": 1e-3,
            "gamma": 0.99,
            "train_batch_size_per_learner": 512,
            "vf_loss_coeff": 0.05,
            "entropy_coeff": 0.0,
            "min_time_s_per_iteration": 2,
        },
    ),
    Algorithm(
        "DQN",
        {
            "fcnet_hiddens": [64, 64],
            "fcnet_activation": "tanh",
            "head_fcnet_hiddens": [],
            # Falling, since with steady steps it forgets again what it had learnt.
            "lr": [[0, 1e-3], [15_000, 1e-4]],
            "gamma": 0.99,
            "train_batch_size_per_learner": 64,
            "num_steps_sampled_before_learning_starts": 1000,
            "target_network_update_freq": 500,
            "epsilon": [[0, 1.0], [5_000, 0.05]],
            "replay_buffer_config": _REPLAY,
            "min_sample_timesteps_per_iteration": 1000,
        },
        actions=gymnasium.spaces.Discrete,
        instead="PPO, APPO or IMPALA, or SAC or TQC for Box actions,",
        num_envs_per_env_runner=4,
    ),
    Algorithm("SAC", _SAC, instead="PPO, APPO or IMPALA, or DQN for Discrete actions,", **_CONTINUOUS),
    Algorithm("TQC", _SAC, instead="PPO, APPO or IMPALA, or DQN for Discrete actions,", **_CONTINUOUS),
    Algorithm(
        "BC",
        _NETWORK | {"lr": 1e-3, "train_batch_size_per_learner": 1024},
        **_RECORDINGS,
    ),
    Algorithm(
        "MARWIL",
        _TWO_NETWORKS | {"lr": 1e-3, "gamma": 0.99, "beta": 1.0, "train_batch_size_per_learner": 1024},
        **_RECORDINGS,
    ),
    Algorithm(
        "CQL",
        _ACTOR_AND_CRITICS
        | {
            # RLlib's own validation refuses its own default of `lr`.
            "lr": None,
            "actor_lr": 1e-3,
            "critic_lr": 1e-3,
            "alpha_lr": 1e-3,
            "gamma": 0.99,
            "tau": 0.005,
            "train_batch_size_per_learner": 256,
            # RLlib only imitates for its first 20,000 updates, and is then so careful that little comes of it.
            "bc_iters": 200,
            "num_actions": 4,
            "min_q_weight": 1.0,
        },
        actions=gymnasium.spaces.Box,
        instead="BC or MARWIL",
        draws_within_bounds=True,
        learning_rates=("actor_lr", "critic_lr", "alpha_lr"),
        **_RECORDINGS,
    ),
    Algorithm(
        "IQL",
        _ACTOR_AND_CRITICS
        | {
            "actor_lr": 1e-3,
            "critic_lr": 1e-3,
            "value_lr": 1e-3,
            "gamma": 0.99,
            "tau": 0.005,
            "train_batch_size_per_learner": 256,
        },
        actions=gymnasium.spaces.Box,
        instead="BC or MARWIL",
        draws_within_bounds=True,
        learning_rates=("actor_lr", "critic_lr", "value_lr"),
        **_RECORDINGS,
    ),
)

ALGORITHMS: Mapping[str, Algorithm] = {algorithm.name: algorithm for algorithm in _ALL}
"""What can be trained, by RLlib's names."""


def find_algorithm(name: str) -> Algorithm:
    """Finds an algorithm.

    Raises:
        InvalidArgumentError: If there is none of that name; names the nearest.
    """
    if name not in ALGORITHMS:
        near = difflib.get_close_matches(name.upper(), ALGORITHMS)
        hint = f"; near match: {near[0]}" if near else ""
        raise InvalidArgumentError(f"expected an algorithm among {', '.join(ALGORITHMS)}, got {quoted(name)}{hint}")
    return ALGORITHMS[name]
