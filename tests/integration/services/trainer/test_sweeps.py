"""Sweeps, against a real Ray and a real MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts

from services.common.bundle import read_bundle
from services.trainer.job import greedy
from services.trainer.records.tracking import Tracking
from steersman.arguments import plain_values
from steersman.v1 import trainer_pb2
from steersman.v1.trainer_pb2 import (
    ListRunsRequest,
    ResumeRunRequest,
    RunSpec,
    StartRunRequest,
    StopRunRequest,
    Sweep,
    WatchRunRequest,
)
from tests.conftest import Stack
from tests.integration.services.trainer.api.test_service import Trainer, spec, trainer

__all__ = ["trainer"]

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


def sweep(policy: str, steps: int, described: dict[str, Any]) -> RunSpec:
    asked = spec(policy, {"steps": steps}, settings={"num_epochs": 4, "train_batch_size_per_learner": 512})
    asked.sweep.CopyFrom(json_format.ParseDict(described, Sweep()))
    return asked


async def test_the_best_of_a_grid_becomes_the_version(stack: Stack, trainer: Trainer, tmp_path: Path) -> None:
    asked = sweep("searched", 4096, {"parameters": {"lr": {"grid": [1e-12, 3e-3]}}, "max_concurrent_trials": 2})
    run = (await trainer.StartRun(StartRunRequest(spec=asked))).run
    events = [event async for event in trainer.WatchRun(WatchRunRequest(id=run.id))]

    final = events[-1].run
    assert final.state == trainer_pb2.RUN_STATE_SUCCEEDED, final.error
    assert not final.warning
    assert [trial.number for trial in final.trials] == [1, 2]
    assert [trial.settings["lr"] for trial in final.trials] == [1e-12, 3e-3]
    assert all(trial.state == trainer_pb2.RUN_STATE_SUCCEEDED for trial in final.trials)
    assert final.best_trial == 2, "a learning rate of nothing learns nothing"
    best = final.trials[1]
    assert best.latest.evaluated_return > final.trials[0].latest.evaluated_return

    iterations = [event.iteration for event in events if event.HasField("iteration")]
    assert [iteration.iteration for iteration in iterations] == list(range(1, len(iterations) + 1))
    assert {iteration.trial for iteration in iterations} == {1, 2}
    assert final.latest.steps == sum(trial.latest.steps for trial in final.trials) >= 2 * 4096
    assert final.latest.trial == 2

    client = MlflowClient(tracking_uri=stack.settings.mlflow_url)
    version = client.get_model_version("searched", str(final.version))
    bundle = read_bundle(
        Path(download_artifacts(version.source, dst_path=str(tmp_path), tracking_uri=client.tracking_uri))
    )
    assert bundle.provenance["settings"]["lr"] == 3e-3
    assert (bundle.provenance["run_id"], bundle.provenance["seed"]) == (run.id, 2)
    # Not the return for which it was chosen.
    returns = greedy.play(bundle, run.spec.environment, run.spec.evaluation, seed=2_000_000).returns
    assert final.latest.evaluated_return == pytest.approx(returns.mean())

    nested = [client.get_run(trial.id) for trial in final.trials]
    assert all(each.data.tags["mlflow.parentRunId"] == run.id for each in nested)
    assert [each.data.params["settings.lr"] for each in nested] == ["1e-12", "0.003"]
    own = Tracking(stack.settings.mlflow_url).iterations(best.id, 0)
    assert [entry.iteration for entry in own] == list(range(1, len(own) + 1)), "a curve of its own"
    assert "learning_curve.png" in {artifact.path for artifact in client.list_artifacts(run.id)}
    listed = (await trainer.ListRuns(ListRunsRequest())).runs
    assert run.id in {each.id for each in listed}
    assert not {trial.id for trial in final.trials} & {each.id for each in listed}, "a trial is no run of its own"


@pytest.mark.long
async def test_successive_halving_ends_what_does_worse(trainer: Trainer) -> None:
    asked = sweep(
        "halved",
        8192,
        {
            "parameters": {"lr": {"grid": [3e-3, 1e-12, 1e-11, 1e-10]}},
            "max_concurrent_trials": 1,
            "successive_halving": {"grace_steps": 2048, "reduction_factor": 2},
        },
    )
    run = (await trainer.StartRun(StartRunRequest(spec=asked))).run
    final = [event async for event in trainer.WatchRun(WatchRunRequest(id=run.id))][-1].run

    assert final.state == trainer_pb2.RUN_STATE_SUCCEEDED, final.error
    assert final.best_trial == 1
    ended_early = [trial for trial in final.trials if trial.state == trainer_pb2.RUN_STATE_STOPPED]
    assert len(ended_early) >= 2
    assert all(trial.latest.steps < 8192 for trial in ended_early)


@pytest.mark.long
async def test_a_population_takes_over_from_its_best(stack: Stack, trainer: Trainer) -> None:
    asked = sweep(
        "bred",
        8192,
        {
            "parameters": {"lr": {"choice": [1e-12, 3e-3]}, "entropy_coeff": {"uniform": {"low": 0, "high": 0.01}}},
            "num_samples": 3,
            "population": {"interval_steps": 2048, "quantile": 0.4},
        },
    )
    run = (await trainer.StartRun(StartRunRequest(spec=asked))).run
    final = [event async for event in trainer.WatchRun(WatchRunRequest(id=run.id))][-1].run

    assert final.state == trainer_pb2.RUN_STATE_SUCCEEDED, final.error
    assert len(final.trials) == 3
    assert all(0 <= plain_values(trial.settings)["entropy_coeff"] <= 0.01 for trial in final.trials)
    client = MlflowClient(tracking_uri=stack.settings.mlflow_url)
    changed = [
        trial
        for trial in final.trials
        if any(name.startswith("settings/") for name in client.get_run(trial.id).data.metrics)
    ]
    assert changed, "the worst one goes on from the best one's weights"


@pytest.mark.long
async def test_a_stopped_sweep_exports_its_best_and_can_go_on(trainer: Trainer) -> None:
    asked = sweep("paused", 40_000, {"parameters": {"lr": {"grid": [1e-12, 3e-3]}}})
    asked.settings["min_time_s_per_iteration"] = 1
    run = (await trainer.StartRun(StartRunRequest(spec=asked))).run
    seen = 0
    async for event in trainer.WatchRun(WatchRunRequest(id=run.id)):
        if event.HasField("iteration"):
            seen = event.iteration.iteration
        if seen >= 3:
            break
    stopped = (await trainer.StopRun(StopRunRequest(id=run.id, export=True))).run
    assert stopped.state == trainer_pb2.RUN_STATE_STOPPED, stopped.error
    assert (stopped.version, stopped.best_trial > 0) == (1, True)
    assert all(trial.latest.steps < 40_000 for trial in stopped.trials)

    await trainer.ResumeRun(ResumeRunRequest(id=run.id))
    watch = WatchRunRequest(id=run.id, after_iteration=stopped.latest.iteration)
    events = [event async for event in trainer.WatchRun(watch)]
    final = events[-1].run
    assert final.state == trainer_pb2.RUN_STATE_SUCCEEDED, final.error
    assert (final.version, final.best_trial) == (2, 2)
    assert [trial.id for trial in final.trials] == [trial.id for trial in stopped.trials]
    assert all(trial.latest.steps >= 40_000 for trial in final.trials)
    assert all(trial.state == trainer_pb2.RUN_STATE_SUCCEEDED for trial in final.trials)
    numbers = [event.iteration.iteration for event in events if event.HasField("iteration")]
    assert numbers == list(range(stopped.latest.iteration + 1, final.latest.iteration + 1))


@pytest.mark.long
async def test_trials_that_fail_do_not_end_the_others(trainer: Trainer) -> None:
    asked = sweep("half", 4096, {"parameters": {"lr": {"grid": [1e30, 3e-3]}}})
    asked.settings["fcnet_activation"] = "relu"
    run = (await trainer.StartRun(StartRunRequest(spec=asked))).run
    final = [event async for event in trainer.WatchRun(WatchRunRequest(id=run.id))][-1].run

    assert final.state == trainer_pb2.RUN_STATE_SUCCEEDED, final.error
    assert final.best_trial == 2
    assert final.trials[0].state == trainer_pb2.RUN_STATE_FAILED
    assert "nan" in final.trials[0].error
    assert "1 of 2 trials failed" in final.warning


async def test_a_sweep_that_could_not_work_is_refused(trainer: Trainer) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"parameters": {"vf_loss_coef": {"grid": [1]}}}, "near matches"),
        ({"parameters": {"lr": {"uniform": {"low": 1, "high": 1}}}}, "greater"),
        ({"parameters": {"fcnet_activation": {"grid": ["tanh", "sinh"]}}}, "sinh"),
    ]
    for described, expected in cases:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await trainer.StartRun(StartRunRequest(spec=sweep("refused", 1024, described)))
        assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert expected in (error.value.details() or "")
