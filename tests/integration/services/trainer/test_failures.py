"""Runs to which something bad happens on the way: each ends in a state and a sentence, and can be resumed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ray.rllib.core.rl_module.rl_module import RLModule

from deploy.free_ports import free_address
from services.trainer.records import runs
from services.trainer.records.tracking import Tracking
from steersman.v1 import trainer_pb2
from steersman.v1.trainer_pb2 import ResumeRunRequest, StartRunRequest, WatchRunRequest
from tests.conftest import Stack
from tests.integration.services.trainer.api.test_service import SHORT, Trainer, another_trainer, spec, trainer

__all__ = ["trainer"]

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


async def test_a_cluster_that_goes_away_ends_a_run_of_which_nothing_is_heard(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "_CLUSTER_GONE_SECONDS", 2)
    tracking = Tracking(stack.settings.mlflow_url)
    run_id = tracking.create(spec("silent", SHORT))
    tracking.start(run_id)
    nowhere = f"http://{free_address()}"
    async with another_trainer(stack.settings.model_copy(update={"ray_dashboard_url": nowhere})) as other:
        events = [event.run async for event in other.WatchRun(WatchRunRequest(id=run_id))]

    assert events[0].state == trainer_pb2.RUN_STATE_STARTING
    assert nowhere in events[0].warning
    assert events[-1].state == trainer_pb2.RUN_STATE_FAILED
    assert "the cluster went away" in events[-1].error
    assert tracking.get(run_id).status == "FAILED"


@pytest.mark.long
async def test_a_loss_that_is_not_a_number_leaves_a_good_checkpoint_to_go_on_from(
    stack: Stack, trainer: Trainer
) -> None:
    # The learning rate leaps after some iterations.
    breaks: dict[str, Any] = {"lr": [[0, 1e-3], [2500, 1e-3], [2501, 1e30]], "fcnet_activation": "relu"}
    breaks |= {"train_batch_size_per_learner": 512, "num_epochs": 2}
    asked = spec("broken", {"iterations": 50}, settings=breaks)
    asked.publishing.every_iterations = 1
    run = (await trainer.StartRun(StartRunRequest(spec=asked))).run
    failed = [event async for event in trainer.WatchRun(WatchRunRequest(id=run.id))][-1].run
    assert failed.state == trainer_pb2.RUN_STATE_FAILED
    assert "finite" in failed.error or "nan" in failed.error
    assert failed.version, "what was published before stays"

    folder = stack.settings.var_dir / "runs" / run.id / "tune"
    checkpoints = sorted(folder.rglob("checkpoint_*"))
    assert checkpoints
    for checkpoint in checkpoints:
        module = RLModule.from_checkpoint(str(checkpoint / "learner_group/learner/rl_module/default_policy"))
        assert all(np.isfinite(values).all() for values in module.get_state().values()), checkpoint

    await trainer.ResumeRun(ResumeRunRequest(id=run.id))
    again = [event async for event in trainer.WatchRun(WatchRunRequest(id=run.id))][-1].run
    assert again.attempt == 2
    assert again.state == trainer_pb2.RUN_STATE_FAILED, "it breaks where it broke before"
    assert again.latest.iteration >= failed.latest.iteration, "but did not begin anew"
