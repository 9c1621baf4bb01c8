"""The exported graph answers what RLlib's own inference path answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.connectors.env_to_module import FlattenObservations, MeanStdFilter
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from services.common.bundle import Bundle, read_bundle
from services.trainer.export.action_fit import FitActions
from services.trainer.export.bundle_export import TrainedPolicy, export_bundle, load_checkpoint
from services.trainer.job import greedy
from services.trainer.job.evaluation_settings import complete_evaluation
from steersman.errors import FailedPreconditionError
from steersman.v1.common_pb2 import TrainedEnvironment
from steersman.v1.trainer_pb2 import Environment, RunEvaluation
from tests.integration.services.trainer import unusual_environments

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("local_ray")]

unusual_environments.register()


class OtherFilter(MeanStdFilter):  # type: ignore[misc] # RLlib has no types
    """A subclass may compute anything, so it is as unknown as any other piece."""


@dataclass(frozen=True)
class Case:
    """How a policy is trained."""

    environment: str
    env_to_module: Callable[[], list[Any]] = list
    module_to_env: Callable[[], list[Any]] = list
    actions: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)


CASES = {
    "discrete": Case("CartPole-v1"),
    "discrete, normalised": Case("CartPole-v1", lambda: [MeanStdFilter()]),
    "continuous, unsquashed": Case("Pendulum-v1", lambda: [MeanStdFilter()]),
    "continuous, clipped": Case("Pendulum-v1", actions={"normalize_actions": False, "clip_actions": True}),
    "continuous, unbounded": Case("Pendulum-v1", actions={"normalize_actions": False, "clip_actions": False}),
    "free deviation": Case("Pendulum-v1", model={"free_log_std": True}),
    "flattened float64, actions from 3": Case(
        unusual_environments.ODD,
        lambda: [MeanStdFilter(), FlattenObservations()],
        lambda: [FitActions()],
        {"normalize_actions": False, "clip_actions": False},
    ),
}
RARE = {"discrete", "free deviation", "continuous, clipped", "continuous, unbounded"}
"""Tested with the long tests only: others have their parts."""

assert CASES.keys() >= RARE


def train(case: Case, folder: Path, iterations: int = 2) -> TrainedPolicy:
    """Trains far enough that filters and weights have moved, and goes through a checkpoint as a run does."""
    algorithm = (
        PPOConfig()
        .environment(case.environment, **case.actions)
        .env_runners(
            num_env_runners=0,
            num_envs_per_env_runner=8,
            env_to_module_connector=lambda *_, **__: case.env_to_module(),
            module_to_env_connector=lambda *_, **__: case.module_to_env(),
        )
        .training(lr=0.01, num_epochs=4, minibatch_size=128, train_batch_size_per_learner=1024)
        .rl_module(model_config=DefaultModelConfig(fcnet_hiddens=[32, 32], **case.model))
        .debugging(seed=7)
        .build_algo()
    )
    try:
        for _ in range(iterations):
            algorithm.train()
            # Into the same folder every time, as a run does.
            algorithm.save_to_path(str(folder))
        trained = algorithm.get_module().get_state(inference_only=True)
    finally:
        algorithm.stop()
    policy = load_checkpoint(folder)
    loaded = policy.module.get_state(inference_only=True)
    for name, weights in trained.items():
        np.testing.assert_array_equal(loaded[name], weights)
    return policy


def observations(environment_id: str, count: int) -> npt.NDArray[Any]:
    """Half of them met by a random policy, half drawn at random, some far away from all that was seen in training."""
    environment = gymnasium.make(environment_id)
    environment.action_space.seed(3)
    random = np.random.default_rng(3)
    met = [environment.reset(seed=3)[0]]
    while len(met) < count // 2:
        observation, _, terminated, truncated, _ = environment.step(environment.action_space.sample())
        met.append(environment.reset()[0] if terminated or truncated else observation)
    drawn = random.normal(size=(count - len(met), *met[0].shape))
    drawn *= random.choice([0.1, 1.0, 20.0], size=(len(drawn), *[1] * met[0].ndim))
    return np.concatenate([np.stack(met), drawn.astype(met[0].dtype)])


def rllib_actions(policy: TrainedPolicy, batch: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Asks RLlib: the actions for the environment and the distribution's parameters, greedy."""
    episodes = []
    for observation in batch:
        episode = SingleAgentEpisode(observation_space=policy.observation_space, action_space=policy.action_space)
        episode.add_env_reset(observation)
        episodes.append(episode)
    for piece in policy.env_to_module.connectors:
        if isinstance(piece, MeanStdFilter):
            piece._update_stats = False
    shared: dict[str, Any] = {}
    to_module = policy.env_to_module(
        rl_module=policy.module, batch={}, episodes=episodes, explore=False, shared_data=shared
    )
    from_module = policy.module.forward_inference(to_module)
    inputs = from_module[Columns.ACTION_DIST_INPUTS].detach().numpy().copy()
    to_env = policy.module_to_env(
        rl_module=policy.module, batch=from_module, episodes=episodes, explore=False, shared_data=shared
    )
    actions = np.asarray(to_env.get(Columns.ACTIONS_FOR_ENV, to_env[Columns.ACTIONS]))
    return actions, inputs


def onnx_outputs(bundle: Bundle, batch: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    session = onnxruntime.InferenceSession(str(bundle.model_path), providers=["CPUExecutionProvider"])
    actions, inputs = session.run(["action", "action_distribution_inputs"], {"observation": batch})
    return actions, inputs


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.long if name in RARE else ()) for name in CASES])
def test_bundle_answers_what_rllib_answers(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    policy = train(case, tmp_path / "checkpoint")
    export_bundle(
        policy, tmp_path / "bundle", environment=TrainedEnvironment(id=case.environment), algorithm="PPO", provenance={}
    )
    bundle = read_bundle(tmp_path / "bundle")
    batch = observations(case.environment, 1000)

    expected_actions, expected_inputs = rllib_actions(policy, batch)
    actions, inputs = onnx_outputs(bundle, batch)

    assert actions.dtype == policy.action_space.dtype
    assert inputs.dtype == np.float32
    np.testing.assert_allclose(inputs, expected_inputs, rtol=1e-5, atol=1e-5)
    if isinstance(policy.action_space, gymnasium.spaces.Discrete):
        np.testing.assert_array_equal(actions, expected_actions)
        assert len(np.unique(actions)) > 1
    else:
        np.testing.assert_allclose(actions, expected_actions, rtol=0, atol=1e-5)
        assert actions.std() > 0
    for action in actions[:3]:
        if name != "continuous, unbounded":
            assert policy.action_space.contains(action)

    one, _ = onnx_outputs(bundle, batch[:1])
    np.testing.assert_allclose(one, actions[:1], rtol=0, atol=1e-5)

    returns = greedy.play(
        bundle, Environment(id=case.environment), complete_evaluation(RunEvaluation(episodes=3)), seed=0
    ).returns
    assert returns.shape == (3,)
    assert np.isfinite(returns).all()


def test_model_carries_no_trace_of_the_code_that_made_it(tmp_path: Path) -> None:
    policy = train(CASES["discrete"], tmp_path / "checkpoint", iterations=1)
    bundle = export_bundle(
        policy, tmp_path / "bundle", environment=TrainedEnvironment(id="CartPole-v1"), algorithm="PPO", provenance={}
    )
    assert b".py" not in bundle.model_path.read_bytes()
    assert len(onnx.load(bundle.model_path).graph.node) < 12


def test_unknown_connector_piece_is_refused_by_name(tmp_path: Path) -> None:
    policy = train(Case("CartPole-v1", lambda: [OtherFilter()]), tmp_path, iterations=1)
    with pytest.raises(FailedPreconditionError, match="OtherFilter"):
        export_bundle(
            policy,
            tmp_path / "bundle",
            environment=TrainedEnvironment(id="CartPole-v1"),
            algorithm="PPO",
            provenance={},
        )
    assert not (tmp_path / "bundle").exists()


def test_actions_from_another_start_need_their_connector_piece(tmp_path: Path) -> None:
    policy = train(CASES["flattened float64, actions from 3"], tmp_path, iterations=1)
    policy.module_to_env.remove(FitActions)
    with pytest.raises(FailedPreconditionError, match="FitActions"):
        export_bundle(
            policy,
            tmp_path / "bundle",
            environment=TrainedEnvironment(id=unusual_environments.ODD),
            algorithm="PPO",
            provenance={},
        )
