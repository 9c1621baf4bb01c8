"""The trainer's service against a real Ray and a real MLflow."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import grpc
import mlflow.artifacts
import pytest
from google.protobuf import json_format
from mlflow import MlflowClient

from deploy.free_ports import free_address
from services.common.bundle import read_bundle
from services.common.server import Service, create_server
from services.trainer.__main__ import ENVIRONMENT
from services.trainer.api.service import TrainerServicer
from services.trainer.cluster.ray_jobs import RayJobs
from services.trainer.job import greedy
from services.trainer.records.tracking import Tracking
from steersman.settings import Settings
from steersman.v1 import trainer_pb2, trainer_pb2_grpc
from steersman.v1.trainer_pb2 import (
    GetRunRequest,
    ListRunsRequest,
    Run,
    RunSpec,
    StartRunRequest,
    StopRunRequest,
    WatchRunRequest,
)
from tests.conftest import Stack

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

# The generated stub for asyncio is known to the type checker only.
Trainer: TypeAlias = "trainer_pb2_grpc.TrainerServiceAsyncStub"
SHORT: dict[str, float] = {"iterations": 2}
ENDLESS: dict[str, float] = {"iterations": 1_000_000}
TINY: dict[str, object] = {"train_batch_size_per_learner": 256, "num_epochs": 1}


@pytest.fixture
async def trainer(stack: Stack) -> AsyncIterator[Trainer]:
    async with grpc.aio.insecure_channel(stack.settings.trainer_address) as channel:
        yield trainer_pb2_grpc.TrainerServiceStub(channel)


@asynccontextmanager
async def another_trainer(settings: Settings) -> AsyncIterator[Trainer]:
    """A trainer of its own, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        async with _served(settings) as trainer:
            yield trainer


@asynccontextmanager
async def _served(settings: Settings) -> AsyncIterator[Trainer]:
    async with RayJobs(settings.ray_dashboard_url, settings.ray_token_file) as ray_jobs:
        servicer = TrainerServicer(settings, Tracking(settings.mlflow_url), ray_jobs)
        service = Service(trainer_pb2.DESCRIPTOR.services_by_name["TrainerService"], servicer)
        server = create_server(settings, "127.0.0.1:0", [service])
        await server.start()
        try:
            async with grpc.aio.insecure_channel(server.address) as channel:
                yield trainer_pb2_grpc.TrainerServiceStub(channel)
        finally:
            await server.stop()


def spec(policy: str, stop: dict[str, float], **fields: object) -> RunSpec:
    described = {
        "policy": policy,
        "environment": {"id": "CartPole-v1"},
        "algorithm": "PPO",
        "settings": TINY,
        "num_env_runners": 0,
        "seed": 1,
        "stop": stop,
    }
    return json_format.ParseDict(described | fields, RunSpec())


async def first_iteration(trainer: Trainer, run: Run) -> int:
    """Waits until a run has done an iteration."""
    async for event in trainer.WatchRun(WatchRunRequest(id=run.id)):
        if event.HasField("iteration"):
            return event.iteration.iteration
    pytest.fail("the run ended before its first iteration")


async def test_a_run_becomes_a_version_that_can_be_downloaded(stack: Stack, trainer: Trainer, tmp_path: Path) -> None:
    # With so small a step every iteration plays alike, so that the last one is what is published.
    asked = spec("short", SHORT, num_env_runners=1, settings=TINY | {"lr": 1e-12})
    run = (await trainer.StartRun(StartRunRequest(spec=asked))).run
    assert run.spec.settings["lr"]
    assert run.spec.num_envs_per_env_runner == 32

    events = [event async for event in trainer.WatchRun(WatchRunRequest(id=run.id))]

    final = events[-1].run
    assert final.state == trainer_pb2.RUN_STATE_SUCCEEDED, final.error
    assert final.version == 1
    assert final.ended.ToMilliseconds() > final.submitted.ToMilliseconds()
    assert events[0].run.id == run.id
    iterations = [event.iteration for event in events if event.HasField("iteration")]
    assert [iteration.iteration for iteration in iterations] == [1, 2]
    assert iterations[1].steps > iterations[0].steps >= 256
    assert not iterations[0].HasField("evaluated_return")
    assert iterations[1].HasField("evaluated_return")
    told = [event.run.state for event in events if event.HasField("run")]
    states = [state for state in told if state != trainer_pb2.RUN_STATE_EVALUATING]
    assert states == sorted(states), "a run never goes back"

    client = MlflowClient(tracking_uri=stack.settings.mlflow_url)
    version = client.get_model_version("short", "1")
    folder = mlflow.artifacts.download_artifacts(
        version.source, dst_path=str(tmp_path), tracking_uri=stack.settings.mlflow_url
    )
    bundle = read_bundle(Path(folder))
    assert bundle.provenance["run_id"] == run.id
    assert version.tags["model_sha256"] == bundle.spec.model_sha256
    assert (version.tags["environment"], version.tags["algorithm"]) == ("CartPole-v1", "PPO")
    returns = greedy.play(bundle, run.spec.environment, run.spec.evaluation, seed=1_000_000).returns
    assert float(version.tags["return"]) == pytest.approx(returns.mean(), rel=1e-3)
    assert iterations[1].evaluated_return == pytest.approx(returns.mean())

    assert (await trainer.GetRun(GetRunRequest(id=run.id))).run == final
    assert final in (await trainer.ListRuns(ListRunsRequest(policy="short"))).runs
    resumed = [event async for event in trainer.WatchRun(WatchRunRequest(id=run.id, after_iteration=1))]
    assert [event.iteration.iteration for event in resumed if event.HasField("iteration")] == [2]
    assert (await trainer.StopRun(StopRunRequest(id=run.id))).run == final
    left = stack.settings.var_dir / "runs" / run.id
    assert len(list(left.glob("exports/*/bundle/manifest.json"))) == 1


@pytest.mark.long
async def test_a_run_outlives_its_trainer_and_ends_when_told_to(stack: Stack, trainer: Trainer) -> None:
    async with another_trainer(stack.settings) as other:
        run = (await other.StartRun(StartRunRequest(spec=spec("endless", ENDLESS)))).run
    seen = await first_iteration(trainer, run)
    assert seen == 1

    stopped = (await trainer.StopRun(StopRunRequest(id=run.id))).run

    assert stopped.state == trainer_pb2.RUN_STATE_STOPPED
    assert not stopped.error
    assert stopped.version == 0
    assert stopped.latest.iteration >= seen
    last = [event async for event in trainer.WatchRun(WatchRunRequest(id=run.id, after_iteration=1_000_000))][-1]
    assert last.run.state == trainer_pb2.RUN_STATE_STOPPED


@pytest.mark.long
async def test_a_run_that_fails_says_why(trainer: Trainer) -> None:
    # Steps of this length make the weights overflow, and relu hands that on.
    failing = spec("failing", ENDLESS, settings=TINY | {"lr": 1e30, "fcnet_activation": "relu"}, num_env_runners=1)
    run = (await trainer.StartRun(StartRunRequest(spec=failing))).run
    events = [event async for event in trainer.WatchRun(WatchRunRequest(id=run.id))]
    assert events[-1].run.state == trainer_pb2.RUN_STATE_FAILED
    assert "loss" in events[-1].run.error
    assert "\n" not in events[-1].run.error


async def test_a_run_that_ray_does_not_know_has_failed(stack: Stack, trainer: Trainer) -> None:
    tracking = Tracking(stack.settings.mlflow_url)
    run_id = tracking.create(spec("lost", SHORT))
    tracking.start(run_id)
    run = (await trainer.GetRun(GetRunRequest(id=run_id))).run
    assert run.state == trainer_pb2.RUN_STATE_FAILED
    assert "Ray does not know" in run.error
    assert tracking.get(run_id).status == "FAILED"


@pytest.mark.parametrize(
    ("wrong", "code", "message"),
    [
        (spec("Wrong Name", SHORT), grpc.StatusCode.INVALID_ARGUMENT, "'Wrong Name'"),
        (spec("wrong", {}), grpc.StatusCode.INVALID_ARGUMENT, "stop criterion"),
        (spec("wrong", SHORT, environment={"id": "CartPole-v9"}), grpc.StatusCode.INVALID_ARGUMENT, "CartPole-v1"),
        (spec("wrong", SHORT, algorithm="A3C"), grpc.StatusCode.INVALID_ARGUMENT, "'A3C'"),
        (spec("wrong", SHORT, settings={"lrr": 1}), grpc.StatusCode.INVALID_ARGUMENT, "'lrr'"),
        (spec("wrong", SHORT, num_env_runners=500), grpc.StatusCode.FAILED_PRECONDITION, "250.5 CPUs"),
        (spec("wrong", SHORT, use_gpu=True, num_learners=3), grpc.StatusCode.FAILED_PRECONDITION, "3 GPUs"),
    ],
)
async def test_bad_requests_start_nothing(
    trainer: Trainer, wrong: RunSpec, code: grpc.StatusCode, message: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await trainer.StartRun(StartRunRequest(spec=wrong))
    assert error.value.code() is code
    assert message in str(error.value.details())
    assert not (await trainer.ListRuns(ListRunsRequest(policy="wrong"))).runs


@pytest.mark.parametrize("run_id", ["", "nope", "0" * 32, "../secret"])
async def test_unknown_runs(trainer: Trainer, run_id: str) -> None:
    for call in (
        trainer.GetRun(GetRunRequest(id=run_id)),
        trainer.StopRun(StopRunRequest(id=run_id)),
        trainer.WatchRun(WatchRunRequest(id=run_id)).read(),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await call
        assert error.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("setting", ["ray_dashboard_url", "mlflow_url"])
async def test_what_is_away_is_named(stack: Stack, trainer: Trainer, setting: str) -> None:
    nowhere = f"http://{free_address()}"
    async with another_trainer(stack.settings.model_copy(update={setting: nowhere})) as other:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await other.StartRun(StartRunRequest(spec=spec("away", SHORT)))
    assert error.value.code() is grpc.StatusCode.UNAVAILABLE
    assert nowhere in str(error.value.details())
    assert not (await trainer.ListRuns(ListRunsRequest(policy="away"))).runs


@pytest.mark.long
async def test_a_run_for_which_there_is_no_room_now_says_so(trainer: Trainer) -> None:
    most = {"cpus": 10}
    first = (await trainer.StartRun(StartRunRequest(spec=spec("roomy", ENDLESS, resources=most)))).run
    await first_iteration(trainer, first)
    second = (await trainer.StartRun(StartRunRequest(spec=spec("roomy", {"iterations": 1}, resources=most)))).run

    places = []
    async for event in trainer.WatchRun(WatchRunRequest(id=second.id)):
        if event.HasField("run"):
            places.append((event.run.queue_position, event.run.queue_reason))
            if event.run.queue_position:
                await trainer.StopRun(StopRunRequest(id=first.id))
            last = event.run

    # Something else of this stack may still have a CPU or two.
    reasons = [reason for position, reason in places if position == 1]
    assert any(re.fullmatch(r"waits for 10 CPUs, while 1\d(\.5)? of 16 CPUs are in use", reason) for reason in reasons)
    assert last.state == trainer_pb2.RUN_STATE_SUCCEEDED, last.error
    assert places[-1] == (0, "")
