"""The life of a run, against a real Ray and a real MLflow: stopped, resumed, published, started from another."""

from __future__ import annotations

import time
from typing import TypeAlias

import grpc
import pytest
from mlflow import MlflowClient

from services.trainer.records import own_checkpoints
from services.trainer.records.tracking import Tracking
from steersman.v1 import deployment_pb2, deployment_pb2_grpc, trainer_pb2, trainer_pb2_grpc
from steersman.v1.trainer_pb2 import (
    ReadRunLogRequest,
    ResumeRunRequest,
    Run,
    StartRunRequest,
    StopRunRequest,
    WatchRunRequest,
)
from tests.conftest import Stack
from tests.integration.services.trainer.api.test_service import TINY, first_iteration, spec, trainer

__all__ = ["trainer"]

pytestmark = [pytest.mark.integration, pytest.mark.long, pytest.mark.timeout(300)]

Trainer: TypeAlias = "trainer_pb2_grpc.TrainerServiceAsyncStub"


async def followed(trainer: Trainer, run: Run) -> Run:
    """Follows a run to its end."""
    return [event async for event in trainer.WatchRun(WatchRunRequest(id=run.id))][-1].run


async def test_a_stopped_run_exports_what_it_has_learnt_and_can_go_on(stack: Stack, trainer: Trainer) -> None:
    asked = spec("stopped", {"iterations": 12})
    asked.settings["min_time_s_per_iteration"] = 1
    run = (await trainer.StartRun(StartRunRequest(spec=asked))).run
    assert await first_iteration(trainer, run) == 1

    started = time.monotonic()
    stopped = (await trainer.StopRun(StopRunRequest(id=run.id, export=True))).run
    took = time.monotonic() - started

    assert stopped.state == trainer_pb2.RUN_STATE_STOPPED
    assert stopped.version
    assert took < 60
    client = MlflowClient(tracking_uri=stack.settings.mlflow_url)
    kept = client.get_model_version("stopped", str(stopped.version))
    assert kept.tags["run_id"] == run.id
    tracking = Tracking(stack.settings.mlflow_url)
    (evaluated,) = (entry for entry in tracking.iterations(run.id, 0) if entry.HasField("evaluated_return"))
    assert float(kept.tags["return"]) == pytest.approx(evaluated.evaluated_return, rel=1e-3)
    assert kept.tags["iteration"] == str(evaluated.iteration)
    folder = kept.source.removesuffix("bundle").split("artifacts/")[-1]
    assert {artifact.path.rsplit("/", 1)[-1] for artifact in client.list_artifacts(run.id, folder)} == {
        "bundle",
        "checkpoint",
    }

    resumed = (await trainer.ResumeRun(ResumeRunRequest(id=run.id))).run
    assert (resumed.state, resumed.attempt) == (trainer_pb2.RUN_STATE_QUEUED, 2)
    before = stopped.latest.iteration
    events = [event async for event in trainer.WatchRun(WatchRunRequest(id=run.id, after_iteration=before))]
    final = events[-1].run
    assert final.state == trainer_pb2.RUN_STATE_SUCCEEDED, final.error
    assert final.version == stopped.version + 1
    seen = [event.iteration for event in events if event.HasField("iteration")]
    assert [iteration.iteration for iteration in seen] == list(range(before + 1, 13)), "nothing is done twice"
    assert seen[0].steps > stopped.latest.steps
    artifacts = {artifact.path for artifact in client.list_artifacts(run.id)}
    assert "learning_curve.png" in artifacts
    assert any(name.startswith("system/") for name in client.get_run(run.id).data.metrics)

    with pytest.raises(grpc.aio.AioRpcError) as error:
        await trainer.ResumeRun(ResumeRunRequest(id=run.id))
    assert error.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    log = "".join([piece.text async for piece in trainer.ReadRunLog(ReadRunLogRequest(id=run.id))])
    assert f"registered version {final.version}" in log
    assert list((stack.settings.var_dir / "runs" / run.id).rglob("events.out.tfevents*"))


async def test_versions_on_the_way_and_a_start_from_one(stack: Stack, trainer: Trainer) -> None:
    asked = spec("steady", {"iterations": 3})
    asked.publishing.every_iterations = 1
    first = await followed(trainer, (await trainer.StartRun(StartRunRequest(spec=asked))).run)
    assert first.state == trainer_pb2.RUN_STATE_SUCCEEDED, first.error
    versions = MlflowClient(tracking_uri=stack.settings.mlflow_url).search_model_versions("name='steady'")
    assert sum(version.run_id == first.id for version in versions) == 3
    assert first.latest.HasField("best_evaluated_return")
    assert "policy_loss" in first.latest.losses
    assert first.latest.learner_seconds > 0
    assert first.latest.sampler_seconds > 0
    tracking = Tracking(stack.settings.mlflow_url)
    assert all(iteration.HasField("evaluated_return") for iteration in tracking.iterations(first.id, 0))
    noted = own_checkpoints.ledger(stack.settings.var_dir)
    kept = list((stack.settings.var_dir / "runs" / first.id / "tune").rglob("checkpoint_*"))
    assert kept
    assert all(own_checkpoints.is_ours(checkpoint, noted) for checkpoint in kept), "a run may start from each"

    # With so small a step, what it plays like is what it started from.
    again = spec("steady", {"iterations": 1}, settings=TINY | {"lr": 1e-12})
    again.warm_start.SetInParent()
    again.publishing.deploy_as = "candidate"
    second = await followed(trainer, (await trainer.StartRun(StartRunRequest(spec=again))).run)
    assert second.state == trainer_pb2.RUN_STATE_SUCCEEDED, second.error
    assert (second.spec.warm_start.policy, second.spec.warm_start.version) == ("steady", first.version)
    assert second.latest.evaluated_return == first.latest.evaluated_return
    assert not second.warning
    async with grpc.aio.insecure_channel(stack.settings.gateway_address) as channel:
        gateway = deployment_pb2_grpc.DeploymentServiceStub(channel)
        deployments = (await gateway.ListDeployments(deployment_pb2.ListDeploymentsRequest())).deployments
        (deployed,) = (entry for entry in deployments if entry.policy == "steady")
        assert dict(deployed.aliases) == {"candidate": second.version}
        await gateway.Undeploy(deployment_pb2.UndeployRequest(policy="steady"))

    again.warm_start.version = 77
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await trainer.StartRun(StartRunRequest(spec=again))
    assert error.value.code() is grpc.StatusCode.NOT_FOUND


async def test_runs_that_end_in_the_gate(stack: Stack, trainer: Trainer) -> None:
    asked = spec("promoted", {"iterations": 1}, settings=TINY | {"lr": 1e-12})
    asked.publishing.deploy_as, asked.publishing.promote_if_better_than = "candidate", "champion"
    first = await followed(trainer, (await trainer.StartRun(StartRunRequest(spec=asked))).run)
    assert first.state == trainer_pb2.RUN_STATE_SUCCEEDED, first.error
    assert not first.warning, "there was nobody to beat"

    learning = spec("promoted", {"steps": 12_000, "episode_return": 300}, settings={})
    learning.publishing.CopyFrom(asked.publishing)
    second = await followed(trainer, (await trainer.StartRun(StartRunRequest(spec=learning))).run)
    assert second.state == trainer_pb2.RUN_STATE_SUCCEEDED, second.error
    assert not second.warning, second.warning

    third = await followed(trainer, (await trainer.StartRun(StartRunRequest(spec=asked))).run)
    assert third.state == trainer_pb2.RUN_STATE_SUCCEEDED, third.error
    assert f"version {third.version} was not promoted over champion: promoted:{third.version} " in third.warning
    async with grpc.aio.insecure_channel(stack.settings.gateway_address) as channel:
        gateway = deployment_pb2_grpc.DeploymentServiceStub(channel)
        deployments = (await gateway.ListDeployments(deployment_pb2.ListDeploymentsRequest())).deployments
        (deployed,) = (entry for entry in deployments if entry.policy == "promoted")
        assert dict(deployed.aliases) == {"candidate": third.version, "champion": second.version}
        assert [weight.version for weight in deployed.route.weights] == [second.version]
        await gateway.Undeploy(deployment_pb2.UndeployRequest(policy="promoted"))
