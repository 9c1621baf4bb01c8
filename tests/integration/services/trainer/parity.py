"""Trains a combination, exports it, and steps RLlib's own inference path and the bundle through the same episodes."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import torch
import tree
from ray.rllib.connectors.env_to_module import MeanStdFilter
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from services.common.bundle import read_bundle
from services.policy.runtime import Choice, PolicyRuntime
from services.trainer.export.bundle_export import TrainedPolicy, export_bundle, load_checkpoint
from services.trainer.export.nesting import leaves
from steersman import spaces, tensors
from steersman.extras import ACTION_DISTRIBUTION_INPUTS, LOG_PROBABILITY, VALUE
from steersman.v1.common_pb2 import TrainedEnvironment
from tests.integration.services.trainer import recordings, unusual_environments
from tests.integration.services.trainer.combinations import Combination, config_of

EPISODES = 3
ITERATIONS = 2


@dataclass(frozen=True)
class Step:
    """What came out for one observation.

    Attributes:
        action: The parts of the action for the environment, in their order.
        parameters: The parameters of the distribution in the bundle's order; None where there is none.
        value: The value estimate; None where there is none.
        log_probability: Of the action, before it is brought to the bounds; None where there is none.
    """

    action: list[npt.NDArray[Any]]
    parameters: npt.NDArray[np.float32] | None
    value: float | None
    log_probability: float | None


def train(combination: Combination, folder: Path) -> TrainedPolicy:
    """Trains far enough that filters and weights have moved, and goes through a checkpoint as a run does."""
    unusual_environments.register()
    spaces_given = {"observation_space": combination.observations, "action_space": combination.actions}
    config = (
        config_of(combination.algorithm)
        .environment(unusual_environments.ANY, env_config=spaces_given, **spaces_given, **combination.environment)
        .env_runners(
            num_env_runners=0,
            num_envs_per_env_runner=2,
            env_to_module_connector=lambda *_, **__: combination.env_to_module(),
            module_to_env_connector=lambda *_, **__: combination.module_to_env(),
        )
        # Of these, CQL works only with a learner in a process of its own.
        .learners(num_learners=int(combination.algorithm == "CQL"))
        .rl_module(
            model_config=DefaultModelConfig(
                fcnet_hiddens=[16, 16], **{"head_fcnet_hiddens": [], **dict(combination.model)}
            )
        )
        .training(**_small(combination.algorithm), **combination.training)
        .reporting(
            min_time_s_per_iteration=0,
            # What learns from recordings never samples, and would go on forever.
            min_sample_timesteps_per_iteration=0 if combination.is_offline else 64,
        )
        .debugging(seed=7)
    )
    if combination.module_class is not None:
        config.rl_module(rl_module_spec=RLModuleSpec(module_class=combination.module_class))
    if combination.is_offline:
        config.offline_data(
            input_=[str(recordings.record(combination, folder / "recordings"))],
            dataset_num_iters_per_learner=1,
        )
        # The runners that evaluate are the only ones that have connectors.
        config.evaluation(evaluation_interval=1000, evaluation_num_env_runners=0)
    algorithm = config.build_algo()
    try:
        algorithm.save_to_path(str(folder / "untrained"))
        for _ in range(ITERATIONS):
            algorithm.train()
        algorithm.save_to_path(str(folder / "trained"))
    finally:
        algorithm.stop()
    before, after = (load_checkpoint(folder / name) for name in ("untrained", "trained"))
    old, new = (policy.module.get_state() for policy in (before, after))
    assert any(np.any(old[name] != new[name]) for name in new), "expected training to change the weights"
    return after


def _small(algorithm: str) -> dict[str, Any]:
    """Gives settings with which an iteration takes about a second."""
    if algorithm in ("DQN", "SAC", "TQC"):
        return {"num_steps_sampled_before_learning_starts": 32, "train_batch_size_per_learner": 32}
    if algorithm == "PPO":
        return {"train_batch_size_per_learner": 128, "minibatch_size": 64, "num_epochs": 2, "lr": 0.01}
    if algorithm == "CQL":
        # RLlib's default is refused by RLlib's own validation.
        return {"train_batch_size_per_learner": 64, "lr": None}
    return {"train_batch_size_per_learner": 64, "lr": 0.01}


def check(combination: Combination, folder: Path) -> None:
    """Compares a trained policy's bundle with RLlib's own path: equal integers, 1e-5 on everything else."""
    policy = train(combination, folder)
    export_bundle(
        policy,
        folder / "bundle",
        environment=TrainedEnvironment(id=unusual_environments.ANY),
        algorithm=combination.algorithm,
        provenance={},
    )
    runtime = PolicyRuntime(read_bundle(folder / "bundle"))
    for seed in range(EPISODES):
        for step, (expected, found) in enumerate(_lockstep(policy, runtime, combination, seed)):
            place = f"episode {seed}, step {step}"
            for wanted, got, (_, space) in zip(expected.action, found.action, leaves(combination.actions), strict=True):
                assert got.dtype == space.dtype, place
                assert space.contains(got[()]), place
                if np.dtype(space.dtype).kind == "f":
                    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5, err_msg=place)
                else:
                    np.testing.assert_array_equal(got, wanted, err_msg=place)
            for name in ("parameters", "value", "log_probability"):
                wanted, got = getattr(expected, name), getattr(found, name)
                assert (wanted is None) == (got is None), (name, place)
                if wanted is not None:
                    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5, err_msg=f"{name}, {place}")


def _lockstep(
    policy: TrainedPolicy, runtime: PolicyRuntime, combination: Combination, seed: int
) -> Iterator[tuple[Step, Step]]:
    environment = gymnasium.make(
        unusual_environments.ANY, observation_space=combination.observations, action_space=combination.actions
    )
    rllib, bundle = RllibPlayer(policy), BundlePlayer(runtime)
    observation, _ = environment.reset(seed=seed)
    rllib.begin(observation)
    bundle.begin()
    reward, ended = 0.0, False
    while not ended:
        expected, for_environment = rllib.act()
        yield expected, bundle.act(observation, reward)
        observation, given, terminated, truncated, _ = environment.step(for_environment)
        reward = float(given)
        ended = terminated or truncated
        rllib.observe(observation, reward, terminated, truncated)


class RllibPlayer:
    """RLlib's own inference path, greedy: connectors, module, connectors, on an episode."""

    def __init__(self, policy: TrainedPolicy) -> None:
        self._policy = policy
        policy.module.eval()
        for piece in policy.env_to_module.connectors:
            if isinstance(piece, MeanStdFilter):
                piece._update_stats = False

    def begin(self, observation: Any) -> None:  # noqa: ANN401 - a sample of any space
        self._episode = SingleAgentEpisode(
            observation_space=self._policy.observation_space, action_space=self._policy.action_space
        )
        self._episode.add_env_reset(observation)

    def act(self) -> tuple[Step, Any]:
        """Gives what came out, and the action for the environment."""
        policy, shared = self._policy, dict[str, Any]()
        with torch.inference_mode():
            batch = policy.env_to_module(
                rl_module=policy.module, batch={}, episodes=[self._episode], explore=False, shared_data=shared
            )
            # Copies, since modules may take their input apart in place.
            outputs = policy.module._forward_inference(copy.deepcopy(batch))
            value = None
            if hasattr(policy.module, "compute_values"):
                value = float(policy.module.compute_values(copy.deepcopy(batch)).reshape(()))
            parameters, log_probability = self._distribution(outputs)
        given = policy.module_to_env(
            rl_module=policy.module, batch=outputs, episodes=[self._episode], explore=False, shared_data=shared
        )
        self._chosen = _first(given[Columns.ACTIONS])
        self._extra = {key: parts[0] for key, parts in given.items() if key == Columns.STATE_OUT}
        for_environment = _first(given.get(Columns.ACTIONS_FOR_ENV, given[Columns.ACTIONS]))
        return Step(_parts(for_environment, policy.action_space), parameters, value, log_probability), for_environment

    def observe(
        self,
        observation: Any,  # noqa: ANN401 - a sample of any space
        reward: float,
        terminated: bool,
        truncated: bool,
    ) -> None:
        self._episode.add_env_step(
            observation,
            self._chosen,
            reward,
            terminated=terminated,
            truncated=truncated,
            extra_model_outputs=self._extra,
        )

    def _distribution(self, outputs: dict[str, Any]) -> tuple[npt.NDArray[np.float32] | None, float | None]:
        if Columns.ACTION_DIST_INPUTS not in outputs:
            return None, None
        inputs = outputs[Columns.ACTION_DIST_INPUTS]
        distribution = self._policy.module.get_inference_action_dist_cls().from_logits(inputs)
        greedy = distribution.to_deterministic().sample()
        log_probability = float(torch.as_tensor(distribution.logp(greedy)).reshape(()))
        return inputs.reshape(-1).numpy().copy(), log_probability


class BundlePlayer:
    """The bundle, greedy, with its state carried from step to step."""

    def __init__(self, runtime: PolicyRuntime) -> None:
        self._runtime, self._spec = runtime, runtime.spec
        available = {entry.name for entry in self._spec.extra_tensors}
        self._extras = [name for name in (ACTION_DISTRIBUTION_INPUTS, VALUE, LOG_PROBABILITY) if name in available]

    def begin(self) -> None:
        self._state = {
            entry.name: np.zeros((1, *entry.shape), tensors.NUMPY_DTYPES[entry.dtype])
            for entry in self._spec.state_tensors
        }

    def act(self, observation: Any, reward: float) -> Step:  # noqa: ANN401 - a sample of any space
        layout = spaces.layout(self._spec.observation_space, spaces.OBSERVATION)
        inputs = {name: array[np.newaxis] for name, array in spaces.flatten(observation, layout).items()}
        if self._spec.observation_tensors[-1].name == spaces.PREVIOUS_REWARD:
            inputs[spaces.PREVIOUS_REWARD] = np.array([reward], np.float32)
        outputs = self._runtime.compute(inputs | self._state, Choice(extras=self._extras))
        self._state = {name: outputs[name] for name in self._state}
        parameters = outputs.get(ACTION_DISTRIBUTION_INPUTS)
        return Step(
            [outputs[entry.name][0] for entry in self._spec.action_tensors],
            None if parameters is None else parameters[0],
            float(outputs[VALUE][0]) if VALUE in outputs else None,
            float(outputs[LOG_PROBABILITY][0]) if LOG_PROBABILITY in outputs else None,
        )


def _first(actions: Any) -> Any:  # noqa: ANN401 - of any space
    """Takes the first action of a batch, which RLlib gives as a list, or nested as the space is."""
    return tree.map_structure(lambda part: part[0], actions) if isinstance(actions, dict | tuple) else actions[0]


def _parts(action: Any, space: gymnasium.Space[Any]) -> list[npt.NDArray[Any]]:  # noqa: ANN401
    """Takes an action apart in the order of its space."""
    found = []
    for path, _ in leaves(space):
        part = action
        for step in path:
            part = part[step]
        found.append(np.asarray(part))
    return found
