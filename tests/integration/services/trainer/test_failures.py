"""Runs to which something bad happens on the way: each ends in a state and a sentence, and can be resumed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from ray.rllib.core.rl_module.rl_module import RLModule

from deploy.free_ports import free_address
from services.trainer.records import heartbeat
from services.trainer.records.tracking import Tracking
from steersman.v1 import trainer_pb2
from steersman.v1.trainer_pb2 import GetRunRequest, ResumeRunRequest, StartRunRequest, WatchRunRequest
from tests.conftest import Stack
from tests.integration.services.trainer.api.test_service import SHORT, Trainer, another_trainer, spec, trainer

__all__ = ["trainer"]

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

_ONE_BEAT = """
import pathlib, sys
from services.trainer.records import heartbeat
heartbeat.beat(pathlib.Path(sys.argv[1]), attempt=1)
"""


async def test_without_ray_a_run_has_failed_only_if_its_process_is_gone_for_certain(stack: Stack) -> None:
    tracking = Tracking(stack.settings.mlflow_url)
    run_id = tracking.create(spec("silent", SHORT))
    tracking.start(run_id)
    nowhere = f"http://{free_address()}"
    async with another_trainer(stack.settings.model_copy(update={"ray_dashboard_url": nowhere})) as other:
        silent = (await other.GetRun(GetRunRequest(id=run_id))).run
        assert silent.state == trainer_pb2.RUN_STATE_STARTING
        assert "UNKNOWN whether the run goes on" in silent.warning
        assert nowhere in silent.warning

        folder = stack.settings.var_dir / "runs" / run_id
        heartbeat.beat(folder, attempt=1)
        alive = (await other.GetRun(GetRunRequest(id=run_id))).run
        assert alive.state == trainer_pb2.RUN_STATE_STARTING
        assert "the run's process lives" in alive.warning

        beats = [sys.executable, "-c", _ONE_BEAT, str(folder)]
        await asyncio.to_thread(subprocess.run, beats, check=True, timeout=60)
        gone = [event.run async for event in other.WatchRun(WatchRunRequest(id=run_id))][-1]
        assert gone.state == trainer_pb2.RUN_STATE_FAILED
        assert "the run's process is gone, and so is Ray" in gone.error
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
