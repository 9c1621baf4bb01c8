"""Every algorithm with Steersman's defaults, as a run has them: built, trained for one iteration, exported, played."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import pytest
from google.protobuf import json_format

from services.trainer.algorithms import ALGORITHMS, Algorithm, build_config
from services.trainer.api import validation
from services.trainer.export.bundle_export import export_bundle, load_checkpoint
from services.trainer.job import greedy
from services.trainer.job.evaluation_settings import complete_evaluation
from services.trainer.job.rllib_results import steps_of
from steersman.recording import record
from steersman.v1.common_pb2 import TrainedEnvironment
from steersman.v1.trainer_pb2 import RunEvaluation, RunSpec

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("local_ray")]

SMALL: dict[str, Any] = {"min_time_s_per_iteration": 0, "min_sample_timesteps_per_iteration": 0}
FEW_STEPS = 64


def small(algorithm: Algorithm) -> dict[str, Any]:
    """Settings with which an iteration takes about a second."""
    settings = SMALL | {"train_batch_size_per_learner": FEW_STEPS}
    if algorithm.name == "PPO":
        settings |= {"minibatch_size": FEW_STEPS // 2}
    if "num_steps_sampled_before_learning_starts" in algorithm.defaults:
        settings |= {"num_steps_sampled_before_learning_starts": FEW_STEPS, "min_sample_timesteps_per_iteration": 80}
    if algorithm.name in {"APPO", "IMPALA"}:
        settings |= {"min_sample_timesteps_per_iteration": 2 * FEW_STEPS}
    return settings


CASES = [
    (algorithm, environment)
    for algorithm in ALGORITHMS.values()
    for environment, kind in (("CartPole-v1", gymnasium.spaces.Discrete), ("Pendulum-v1", gymnasium.spaces.Box))
    if algorithm.actions in (None, kind)
]
RARE = {("BC", "Pendulum-v1"), ("MARWIL", "Pendulum-v1"), ("APPO", "Pendulum-v1"), ("IMPALA", "CartPole-v1")}
"""Tested with the long tests only, since the algorithm is tested in the other environment."""


@pytest.mark.parametrize(
    ("algorithm", "environment"),
    [pytest.param(*case, marks=pytest.mark.long if (case[0].name, case[1]) in RARE else ()) for case in CASES],
    ids=lambda value: getattr(value, "name", value),
)
def test_an_iteration_with_the_defaults(algorithm: Algorithm, environment: str, tmp_path: Path) -> None:
    asked: dict[str, Any] = {
        "policy": "test",
        "environment": {"id": environment},
        "algorithm": algorithm.name,
        "settings": small(algorithm),
        "num_env_runners": 0,
        "seed": 1,
        "stop": {"iterations": 1},
    }
    if algorithm.learns_from_recordings:
        record(lambda: gymnasium.make(environment), tmp_path / "dataset", episodes=4)
        asked["dataset"] = str(tmp_path / "dataset")
    spec, bundles = validation.complete(json_format.ParseDict(asked, RunSpec()))
    assert bundles

    built = build_config(spec).build_algo()
    try:
        result = built.train()
        built.save_to_path(str(tmp_path / "checkpoint"))
    finally:
        built.stop()

    assert steps_of(result) >= FEW_STEPS
    bundle = export_bundle(
        load_checkpoint(tmp_path / "checkpoint"),
        tmp_path / "bundle",
        environment=TrainedEnvironment(id=environment),
        algorithm=algorithm.name,
        provenance={},
    )
    assert greedy.play(
        bundle, spec.environment, complete_evaluation(RunEvaluation(episodes=2)), seed=1
    ).returns.shape == (2,)
