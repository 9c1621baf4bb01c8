"""Odd environments and connectors: trained as a run trains, exported, and played as RLlib plays them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import json_format

from services.common.bundle import Bundle, read_bundle
from services.policy.runtime import PolicyRuntime
from services.trainer import algorithms
from services.trainer.api import validation
from services.trainer.export.bundle_export import TrainedPolicy, export_bundle, load_checkpoint
from services.trainer.export.nesting import leaves
from services.trainer.job import greedy
from services.trainer.job.evaluation_settings import complete_evaluation
from services.trainer.job.rllib_results import iteration_of
from steersman.environments.making import make_environment
from steersman.v1 import trainer_pb2
from steersman.v1.common_pb2 import TrainedEnvironment
from tests import odd_environments as odd
from tests.integration.services.trainer import unusual_environments
from tests.integration.services.trainer.parity import BundlePlayer, RllibPlayer

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("local_ray")]

FOUR_EPISODES = complete_evaluation(trainer_pb2.RunEvaluation(episodes=4))
_NO_WORDS = {"path": "gymnasium.wrappers:FilterObservation", "kwargs": {"filter_keys": ["direction", "image"]}}
_PICTURE = {"path": "tests.odd_environments:ImageOnly"}
_SMALL = {"train_batch_size_per_learner": 128, "minibatch_size": 64, "num_epochs": 2, "fcnet_hiddens": [16], "lr": 0.01}
_REPLAYS = {"num_steps_sampled_before_learning_starts": 32, "train_batch_size_per_learner": 32, "fcnet_hiddens": [16]}


@dataclass(frozen=True)
class Case:
    """What is trained.

    Attributes:
        environment: Its id.
        kwargs: Its arguments.
        wrappers: Around it.
        algorithm: RLlib's name.
        settings: Besides small ones.
        connectors: What is chosen.
    """

    environment: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    wrappers: tuple[Mapping[str, Any], ...] = ()
    algorithm: str = "PPO"
    settings: Mapping[str, Any] = field(default_factory=dict)
    connectors: Mapping[str, Any] = field(default_factory=dict)

    @property
    def spec(self) -> trainer_pb2.RunSpec:
        """What a request says of it."""
        small = {"PPO": _SMALL}.get(self.algorithm, _REPLAYS)
        described = {
            "policy": "odd",
            "environment": {"id": self.environment, "kwargs": self.kwargs, "wrappers": self.wrappers},
            "algorithm": self.algorithm,
            "settings": {**small, **self.settings},
            "connectors": self.connectors,
            "num_envs_per_env_runner": 4,
            "stop": {"iterations": 2},
            "seed": 3,
        }
        return json_format.ParseDict(described, trainer_pb2.RunSpec())


def trained(case: Case, folder: Path) -> tuple[trainer_pb2.Iteration, TrainedPolicy]:
    """Checks a run, trains two iterations of it, and gives the last one and what was learnt."""
    unusual_environments.register()
    spec, _ = validation.complete(case.spec)
    algorithm = algorithms.build_config(spec).build_algo()
    try:
        result = [algorithm.train() for _ in range(2)][-1]
        algorithm.save_to_path(str(folder / "checkpoint"))
    finally:
        algorithm.stop()
    return iteration_of(result), load_checkpoint(folder / "checkpoint")


def exported(case: Case, policy: TrainedPolicy, folder: Path) -> Bundle:
    environment = TrainedEnvironment(id=case.environment)
    export_bundle(policy, folder / "bundle", environment=environment, algorithm=case.algorithm, provenance={})
    return read_bundle(folder / "bundle")


def check_parity(case: Case, policy: TrainedPolicy, bundle: Bundle) -> list[Any]:
    """Steps RLlib's own path and the bundle side by side through an episode, and gives the actions."""
    environment = make_environment(case.spec.environment)
    rllib, player = RllibPlayer(policy), BundlePlayer(PolicyRuntime(bundle))
    observation, _ = environment.reset(seed=5)
    rllib.begin(observation)
    player.begin()
    reward, ended, actions = 0.0, False, []
    while not ended:
        expected, for_environment = rllib.act()
        found = player.act(observation, reward)
        for wanted, got, (_, space) in zip(expected.action, found.action, leaves(policy.action_space), strict=True):
            assert got.dtype == space.dtype
            assert space.contains(got[()])
            np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5)
        if expected.parameters is not None:
            assert found.parameters is not None
            np.testing.assert_allclose(found.parameters, expected.parameters, rtol=1e-5, atol=1e-5)
        actions.append(for_environment)
        observation, given, terminated, truncated, _ = environment.step(for_environment)
        reward, ended = float(given), terminated or truncated
        rllib.observe(observation, reward, terminated, truncated)
    return actions


CASES = {
    "unbounded float64 actions": Case(odd.BOXES, {"kind": "unbounded64"}),
    "actions bounded below": Case(odd.BOXES, {"kind": "half"}),
    "actions bounded in part": Case(odd.BOXES, {"kind": "mixed"}),
    "an action that cannot move": Case(odd.BOXES, {"kind": "pinned"}),
    "an action that cannot move, SAC": Case(odd.BOXES, {"kind": "pinned"}, algorithm="SAC"),
    "a gear from 1 beside a push": Case(odd.MIX),
    "clipped actions": Case(odd.MIX, connectors={"clip_actions": True}),
    "integers from elsewhere": Case(odd.COUNTED),
    "integers from elsewhere, with an LSTM": Case(odd.COUNTED, settings={"use_lstm": True, "max_seq_len": 8}),
    "a room without its words": Case(odd.ROOM, wrappers=(_NO_WORDS,)),
    "a small picture with filters": Case(
        odd.ROOM, wrappers=(_PICTURE,), settings={"conv_filters": [[16, 3, 2], [32, 3, 2]]}
    ),
    "kernels larger than the picture": Case(
        odd.ROOM, wrappers=(_PICTURE,), settings={"conv_filters": [[16, 9, 1], [8, 9, 1]]}
    ),
    "a picture of floats": Case(odd.ROOM, {"pixels": [13, 13, 5], "floats": True}, (_PICTURE,)),
    "normalised": Case(odd.GAUGE, connectors={"normalize": True}),
    "normalised integers, DQN": Case(odd.COUNTED, algorithm="DQN", connectors={"normalize": True}),
    "the action before": Case(unusual_environments.ODD, connectors={"previous_action": True}),
    "the reward before": Case(odd.SCALES, connectors={"previous_reward": True}),
    "all before": Case(odd.COUNTED, connectors={"previous_reward": True, "previous_action": True, "normalize": True}),
    "stacked pictures": Case(unusual_environments.IMAGES, connectors={"frame_stack": 3}),
    "stacked pictures, normalised": Case(unusual_environments.IMAGES, connectors={"frame_stack": 3, "normalize": True}),
}
OFTEN = ("an action that cannot move", "a gear from 1 beside a push", "integers from elsewhere", "all before")
"""Tested with every change; each of the others has something of these."""

assert set(OFTEN) <= set(CASES)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in OFTEN else pytest.mark.long) for name in CASES]
)
def test_what_is_odd_is_played_as_rllib_plays_it(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    _, policy = trained(case, tmp_path)
    check_parity(case, policy, exported(case, policy, tmp_path))


def test_a_push_is_scaled_beside_a_gear_that_starts_elsewhere(tmp_path: Path) -> None:
    case = Case(odd.MIX)
    _, policy = trained(case, tmp_path)
    pushes = [action["push"][0] for action in check_parity(case, policy, exported(case, policy, tmp_path))]
    # A network that has hardly learnt draws about 0, which is the middle of the space.
    assert np.mean(pushes) > 25


def test_returns_are_the_environments_own_also_where_wrappers_change_rewards(tmp_path: Path) -> None:
    halved = {"path": "gymnasium.wrappers:ClipReward", "kwargs": {"max_reward": 0.1}}
    plain, wrapped = Case(odd.SCALES, {"worth": 5.0}), Case(odd.SCALES, {"worth": 5.0}, (halved,))
    iteration, policy = trained(wrapped, tmp_path)
    # 20 steps, of which about half are worth 5 each.
    assert 20 < iteration.training_return <= 100
    bundle = exported(wrapped, policy, tmp_path)
    clipped, own = (greedy.play(bundle, case.spec.environment, FOUR_EPISODES, 7).returns for case in (wrapped, plain))
    np.testing.assert_array_equal(clipped, own)


@pytest.mark.long
@pytest.mark.parametrize("kinds", [("reward", odd.SCALES, odd.SOUND_REWARDS), ("emits", odd.THERMOSTAT, odd.EMITTED)])
def test_the_same_seed_learns_the_same_however_things_are_handed_out(
    kinds: tuple[str, str, tuple[str, ...]], tmp_path: Path
) -> None:
    argument, environment, values = kinds
    found = {}
    for value in values:
        case = Case(environment, {argument: value})
        iteration, policy = trained(case, tmp_path / value)
        played = greedy.play(exported(case, policy, tmp_path / value), case.spec.environment, FOUR_EPISODES, 7)
        found[value] = (iteration.training_return, played.returns.tolist())
    found.pop("late-outside", None)
    assert len(set(map(str, found.values()))) == 1, found
