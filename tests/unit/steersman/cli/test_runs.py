from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from services.common.server import Service
from steersman.settings import settings
from steersman.v1 import trainer_pb2, trainer_pb2_grpc
from tests.command_line import CommandLine
from tests.servers import served

QUEUED = trainer_pb2.Run(id="abc", state=trainer_pb2.RUN_STATE_QUEUED)
RUNNING = trainer_pb2.Run(id="abc", state=trainer_pb2.RUN_STATE_RUNNING)
ITERATION = trainer_pb2.Iteration(iteration=4, steps=16_000, steps_per_second=2500.0, training_return=123.4)
SUCCEEDED = trainer_pb2.Run(
    id="abc", state=trainer_pb2.RUN_STATE_SUCCEEDED, version=2, spec=trainer_pb2.RunSpec(policy="cartpole")
)
FAILED = trainer_pb2.Run(id="abc", state=trainer_pb2.RUN_STATE_FAILED, error="the environment [x] raised")


class Trainer(trainer_pb2_grpc.TrainerServiceServicer):
    """Tells the story of a run; with `endless`, it never comes to an end."""

    def __init__(self) -> None:
        self.story: list[trainer_pb2.Run | trainer_pb2.Iteration] = [QUEUED, RUNNING, ITERATION, SUCCEEDED]
        self.endless = False
        self.status: grpc.StatusCode | None = None
        self.submitted: list[trainer_pb2.RunSpec] = []
        self.told, self.left = threading.Event(), threading.Event()

    async def StartRun(  # noqa: N802 - gRPC's name
        self, request: trainer_pb2.StartRunRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> trainer_pb2.StartRunResponse:
        self.submitted.append(request.spec)
        return trainer_pb2.StartRunResponse(run=QUEUED)

    async def GetRun(  # noqa: N802 - gRPC's name
        self, request: trainer_pb2.GetRunRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> trainer_pb2.GetRunResponse:
        return trainer_pb2.GetRunResponse(run=SUCCEEDED)

    async def ListRuns(  # noqa: N802 - gRPC's name
        self, request: trainer_pb2.ListRunsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> trainer_pb2.ListRunsResponse:
        return trainer_pb2.ListRunsResponse(runs=[SUCCEEDED] if request.policy in ("", "cartpole") else [])

    async def StopRun(  # noqa: N802 - gRPC's name
        self, request: trainer_pb2.StopRunRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> trainer_pb2.StopRunResponse:
        return trainer_pb2.StopRunResponse(run=trainer_pb2.Run(id=request.id, state=trainer_pb2.RUN_STATE_STOPPED))

    async def ResumeRun(  # noqa: N802 - gRPC's name
        self, request: trainer_pb2.ResumeRunRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> trainer_pb2.ResumeRunResponse:
        return trainer_pb2.ResumeRunResponse(run=QUEUED)

    async def ReadRunLog(  # noqa: N802 - gRPC's name
        self, request: trainer_pb2.ReadRunLogRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[trainer_pb2.ReadRunLogResponse]:
        for text in ("one line\nanother", " line\n") if request.follow else ("one line\n",):
            yield trainer_pb2.ReadRunLogResponse(text=text)

    async def WatchRun(  # noqa: N802 - gRPC's name
        self, request: trainer_pb2.WatchRunRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[trainer_pb2.WatchRunResponse]:
        for event in self.story:
            if isinstance(event, trainer_pb2.Run):
                yield trainer_pb2.WatchRunResponse(run=event)
            else:
                yield trainer_pb2.WatchRunResponse(iteration=event)
        if self.status is not None:
            await context.abort(self.status, "Stream removed (Socket closed)")
        if self.endless:
            self.told.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.left.set()


@pytest.fixture
def trainer(steersman: CommandLine) -> Iterator[Trainer]:
    servicer = Trainer()
    with served(Service(trainer_pb2.DESCRIPTOR.services_by_name["TrainerService"], servicer)) as address:
        steersman.configure(trainer_address=address)
        yield servicer


@pytest.mark.usefixtures("trainer")
def test_a_run_is_followed_to_its_end(steersman: CommandLine) -> None:
    result = steersman("runs", "watch", "abc", "--json")
    assert result.exit_code == 0
    assert json.loads(result.output)["version"] == 2
    table = steersman("runs", "watch", "abc").output
    assert "cartpole:2" in table
    assert "succeeded" in table


@pytest.mark.usefixtures("trainer")
def test_runs_are_listed_shown_and_stopped(steersman: CommandLine) -> None:
    assert [run["id"] for run in json.loads(steersman("runs", "--json").output)] == ["abc"]
    assert "cartpole" in steersman("runs", "--policy", "cartpole").output
    assert "No runs yet; start one with" in steersman("runs", "--policy", "other").output
    assert json.loads(steersman("runs", "show", "abc", "--json").output)["version"] == 2
    stopped = steersman("runs", "stop", "abc", "--json")
    assert (stopped.exit_code, json.loads(stopped.output)["state"]) == (0, "stopped")


@pytest.mark.usefixtures("terminal")
def test_the_view_tells_how_far_it_is(steersman: CommandLine, trainer: Trainer) -> None:
    trainer.story = [RUNNING, ITERATION]
    errors = steersman("runs", "watch", "abc").errors
    assert "running: iteration 4, 16,000 steps, 2,500 steps/s, return 123.4 in training" in errors


@pytest.mark.usefixtures("terminal")
def test_the_view_draws_the_returns(steersman: CommandLine, trainer: Trainer) -> None:
    others = [trainer_pb2.Iteration(iteration=i, training_return=10.0 * i, evaluated_return=5.0 * i) for i in (1, 2)]
    trainer.story = [RUNNING, *others]
    errors = steersman("runs", "watch", "abc").errors
    assert "return 10.0 ▁█ 20.0 in training" in errors
    assert "last evaluated return: 10.0" in errors


@pytest.mark.usefixtures("trainer")
def test_a_run_goes_on_and_its_log_is_there(steersman: CommandLine) -> None:
    assert steersman("logs", "abc").output == "one line\n"
    assert steersman("logs", "abc", "--follow").output == "one line\nanother line\n"
    assert "steersman runs watch abc" in steersman("resume", "abc", "--detach").output
    assert json.loads(steersman("resume", "abc", "--json").output)["version"] == 2


def test_versions_on_the_way_and_what_a_run_starts_from(steersman: CommandLine, trainer: Trainer) -> None:
    options = ["--publish-every", "5", "--deploy-as", "candidate", "--warm-start", "mine:3", "--with-optimizer"]
    assert steersman("train", "CartPole-v1", "--stop-steps", "1", *options).exit_code == 0
    assert steersman("train", "CartPole-v1", "--stop-steps", "1", "--warm-start", "some/where").exit_code == 0
    first, second = trainer.submitted
    assert (first.publishing.every_iterations, first.publishing.deploy_as) == (5, "candidate")
    assert first.warm_start == trainer_pb2.WarmStart(policy="mine", version=3, with_optimizer=True)
    assert Path(second.warm_start.checkpoint).is_absolute()
    assert "POLICY:VERSION" in steersman("train", "CartPole-v1", "--stop-steps", "1", "--warm-start", "a:b").errors


def test_a_sweep_is_submitted_and_its_trials_are_shown(steersman: CommandLine, trainer: Trainer) -> None:
    options = ["--search", "lr=loguniform(1e-4, 1e-2)", "--num-samples", "8", "--scheduler", "asha"]
    trial = trainer_pb2.Trial(number=1, state=trainer_pb2.RUN_STATE_SUCCEEDED)
    trial.settings["lr"] = 0.003
    swept = trainer_pb2.Run(id="abc", state=trainer_pb2.RUN_STATE_SUCCEEDED, trials=[trial], best_trial=1)
    trainer.story = [RUNNING, swept]
    result = steersman("train", "CartPole-v1", "--stop-steps", "50000", *options)
    assert result.exit_code == 0, result.errors
    assert "1 *" in result.output
    assert "lr=0.003" in result.output
    (spec,) = trainer.submitted
    assert (spec.sweep.num_samples, spec.sweep.WhichOneof("scheduler")) == (8, "successive_halving")
    assert spec.sweep.parameters["lr"].loguniform == trainer_pb2.SearchRange(low=1e-4, high=1e-2)

    result = steersman("train", "CartPole-v1", "--stop-steps", "1", "--num-samples", "8")
    assert result.exit_code == 1
    assert "expected --search" in result.errors


def test_a_run_that_ends_in_the_gate(steersman: CommandLine, trainer: Trainer) -> None:
    options = ["--deploy-as", "candidate", "--promote-if-better-than", "champion", "--detach"]
    assert steersman("train", "CartPole-v1", "--stop-steps", "1", *options).exit_code == 0
    assert trainer.submitted[0].publishing.promote_if_better_than == "champion"


def test_a_failed_run_is_exit_code_1_and_says_why(steersman: CommandLine, trainer: Trainer) -> None:
    trainer.story = [RUNNING, FAILED]
    result = steersman("runs", "watch", "abc", "--json")
    assert result.exit_code == 1
    assert json.loads(result.output)["state"] == "failed"
    assert "Error: run abc failed: the environment [x] raised" in result.errors


def test_what_is_asked_for_is_what_is_submitted(steersman: CommandLine, trainer: Trainer) -> None:
    options = ["--policy", "mine", "--stop-return", "450", "--stop-iterations", "9", "--num-env-runners", "2"]
    options += ["--set", "lr=0.0003", "--set", "fcnet_hiddens=[32]", "--use-gpu", "--seed", "5", "--detach"]
    result = steersman("train", "CartPole-v1", *options, "--environment-set", "max_episode_steps=100")
    assert result.exit_code == 0
    assert "steersman runs watch abc" in result.output
    (spec,) = trainer.submitted
    assert (spec.policy, spec.environment.id, spec.algorithm) == ("mine", "CartPole-v1", "PPO")
    assert (spec.num_env_runners, spec.use_gpu, spec.seed) == (2, True, 5)
    assert (spec.stop.episode_return, spec.stop.iterations, spec.stop.steps) == (450, 9, 0)
    assert spec.settings["lr"] == 0.0003
    assert spec.environment.kwargs["max_episode_steps"] == 100


def test_what_is_not_asked_for_is_left_to_the_trainer(steersman: CommandLine, trainer: Trainer) -> None:
    assert steersman("train", "CartPole-v1", "--stop-steps", "1000").exit_code == 0
    (spec,) = trainer.submitted
    assert spec.policy == "cartpole"
    for field in ("num_env_runners", "seed"):
        assert not spec.HasField(field)
    assert not spec.stop.HasField("episode_return")


def test_a_trainer_that_goes_away_does_not_end_the_run(steersman: CommandLine, trainer: Trainer) -> None:
    trainer.story, trainer.status = [RUNNING], grpc.StatusCode.UNAVAILABLE
    result = steersman("runs", "watch", "abc", "--json")
    assert result.exit_code == 1
    assert "Run abc goes on. Follow it again with: steersman runs watch abc" in result.errors
    assert "Error: lost the connection to the trainer at 127.0.0.1" in result.errors
    assert result.output == ""


def test_a_run_that_is_not_known_does_not_go_on(steersman: CommandLine, trainer: Trainer) -> None:
    trainer.story, trainer.status = [], grpc.StatusCode.NOT_FOUND
    result = steersman("runs", "watch", "abc")
    assert result.exit_code == 1
    assert "goes on" not in result.errors


def test_ctrl_c_leaves_the_run_going_and_says_how_to_follow_or_stop_it(trainer: Trainer) -> None:
    """A process of its own, since it is the process that is interrupted."""
    trainer.story, trainer.endless = [QUEUED, RUNNING, ITERATION], True
    # As from a terminal: a shell that runs the tests in the background would have its children ignore Ctrl-C.
    script = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    script += "from steersman.cli import main; main()"
    command = [sys.executable, "-c", script, "train", "CartPole-v1", "--json"]
    environment = os.environ | {"STEERSMAN_TRAINER_ADDRESS": settings().trainer_address, "COLUMNS": "200"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert trainer.told.wait(30)
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0, errors
    assert json.loads(printed)["state"] in ("queued", "running"), "as it was last seen"
    assert "Run abc goes on. Follow it again with: steersman runs watch abc" in errors
    assert "Stop it with: steersman runs stop abc" in errors
    assert "Traceback" not in errors
    assert trainer.left.wait(10), "the stream was cancelled"
