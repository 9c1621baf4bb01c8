"""Runs in environments whose greedy episodes do not end, or whose episodes are longer than the run."""

from __future__ import annotations

import json

import pytest
from google.protobuf import json_format

from services.trainer.records.tracking import Tracking
from steersman.v1 import trainer_pb2
from steersman.v1.trainer_pb2 import StartRunRequest
from tests.conftest import Stack
from tests.integration.services.trainer.api.test_service import Trainer, spec, trainer
from tests.integration.services.trainer.test_life import followed

__all__ = ["trainer"]

pytestmark = [pytest.mark.integration, pytest.mark.long, pytest.mark.timeout(300)]


async def test_a_greedy_policy_that_never_ends_an_episode_ends_its_run(trainer: Trainer) -> None:
    """CliffWalking has no time limit, and a policy that has learnt for an iteration walks into a wall for ever."""
    asked = spec(
        "cliff",
        {"iterations": 1},
        environment={"id": "CliffWalking-v1"},
        evaluation={"episodes": 3, "longest_episode_steps": 300, "every_iterations": 1},
    )
    run = await followed(trainer, (await trainer.StartRun(StartRunRequest(spec=asked))).run)
    assert run.state == trainer_pb2.RUN_STATE_SUCCEEDED, run.error
    assert run.version
    assert run.latest.cut_episodes == run.published.cut_episodes == 3
    assert "3 of the 3 greedy episodes of iteration 1 did not end within 300 steps" in run.warning


async def test_without_a_return_no_trial_is_punished_or_cloned(stack: Stack, trainer: Trainer) -> None:
    """ray#7319: episodes are longer than the trials, so that there is no training return."""
    asked = spec(
        "bred",
        {"steps": 600},
        environment={"id": "CliffWalking-v1"},
        num_envs_per_env_runner=4,
        evaluation={"episodes": 2, "longest_episode_steps": 20},
        settings={"train_batch_size_per_learner": 128, "minibatch_size": 64, "num_epochs": 1},
    )
    sweep = {
        "parameters": {"lr": {"loguniform": {"low": 1e-4, "high": 1e-2}}},
        "num_samples": 3,
        "population": {"interval_steps": 128},
    }
    json_format.ParseDict(sweep, asked.sweep)
    run = await followed(trainer, (await trainer.StartRun(StartRunRequest(spec=asked))).run)
    assert run.state == trainer_pb2.RUN_STATE_SUCCEEDED, run.error
    assert [trial.state for trial in run.trials] == [trainer_pb2.RUN_STATE_SUCCEEDED] * 3
    tracking = Tracking(stack.settings.mlflow_url)
    for trial in run.trials:
        recorded = tracking.client.get_run(trial.id)
        assert not [name for name in recorded.data.metrics if name.startswith("settings/")], "it was never cloned"
        assert "training_return" not in recorded.data.metrics
        assert not trial.latest.HasField("training_return")
    assert json.loads(json_format.MessageToJson(run))
