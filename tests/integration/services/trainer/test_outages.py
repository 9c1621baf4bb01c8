"""Runs whose stack suffers under them: its Ray head is killed, its disk is full. On a stack of their own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import psutil
import pytest

from services.trainer.cluster.ray_jobs import RayJobs
from steersman.errors import UnavailableError
from steersman.v1 import trainer_pb2, trainer_pb2_grpc
from steersman.v1.trainer_pb2 import GetRunRequest, ResumeRunRequest, StartRunRequest, StopRunRequest, WatchRunRequest
from tests.conftest import Stack
from tests.integration.services.trainer.api.test_service import ENDLESS, Trainer, spec

pytestmark = [pytest.mark.integration, pytest.mark.long, pytest.mark.timeout(300)]


@pytest.fixture
async def trainer(own_stack: Stack) -> AsyncIterator[Trainer]:
    async with grpc.aio.insecure_channel(own_stack.settings.trainer_address) as channel:
        yield trainer_pb2_grpc.TrainerServiceStub(channel)


async def test_a_run_killed_with_its_ray_head_goes_on_from_its_last_checkpoint(
    own_stack: Stack, trainer: Trainer
) -> None:
    run = (await trainer.StartRun(StartRunRequest(spec=spec("killed", ENDLESS)))).run
    folder = own_stack.settings.var_dir / "runs" / run.id
    async for _ in trainer.WatchRun(WatchRunRequest(id=run.id)):
        if list(folder.rglob("checkpoint_*/rllib_checkpoint.json")):
            break
    before = (await trainer.GetRun(GetRunRequest(id=run.id))).run.latest.iteration
    _kill_ray(own_stack)
    async for event in trainer.WatchRun(WatchRunRequest(id=run.id, after_iteration=1_000_000)):
        last = event.run
    assert last.state == trainer_pb2.RUN_STATE_FAILED
    # Whether Ray was back by then or not.
    assert "can be resumed from its last checkpoint" in last.error

    await _until_ray_answers(own_stack)
    await trainer.ResumeRun(ResumeRunRequest(id=run.id))
    async for event in trainer.WatchRun(WatchRunRequest(id=run.id, after_iteration=before + 1)):
        if event.HasField("iteration"):
            break
    assert event.iteration.iteration == before + 2
    await trainer.StopRun(StopRunRequest(id=run.id))


async def _until_ray_answers(stack: Stack) -> None:
    """Waits for the head that the stack starts again."""
    deadline = time.monotonic() + 90
    async with RayJobs(stack.settings.ray_dashboard_url, stack.settings.ray_token_file) as ray_jobs:
        while True:
            with contextlib.suppress(UnavailableError):
                await ray_jobs.get("nobody")
                return
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)


async def test_a_runner_that_is_killed_is_started_again_and_nothing_is_done_twice(
    own_stack: Stack, trainer: Trainer
) -> None:
    asked = spec("robbed", {"iterations": 12})
    asked.num_env_runners = 2
    run = (await trainer.StartRun(StartRunRequest(spec=asked))).run
    seen, killed = [], False
    async for event in trainer.WatchRun(WatchRunRequest(id=run.id)):
        if event.HasField("iteration"):
            seen.append(event.iteration.iteration)
            if not killed:
                killed = True
                _runners(own_stack)[0].kill()
        else:
            last = event.run
    assert last.state == trainer_pb2.RUN_STATE_SUCCEEDED, last.error
    assert last.warning == "processes of environments were lost and started again"
    assert last.attempt == 1
    assert seen == sorted(set(seen)), "each iteration once"


def _runners(stack: Stack) -> list[psutil.Process]:
    """Finds the processes of a run's environment runners."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if "EnvRunner" in " ".join(process.info["cmdline"] or []) and _belongs(process, stack)
    ]


def _kill_ray(stack: Stack) -> None:
    """Kills the head and all that belongs to it; the stack starts another one."""
    mark = str(Path(stack.settings.var_dir) / "ray")
    for process in psutil.process_iter(["cmdline"]):
        command = " ".join(process.info["cmdline"] or [])
        if mark in command or ("services.trainer.job" in command and _belongs(process, stack)):
            try:
                os.kill(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def _belongs(process: psutil.Process, stack: Stack) -> bool:
    try:
        return str(process.environ().get("STEERSMAN_VAR_DIR")) == str(stack.settings.var_dir)
    except psutil.Error:
        return False


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small disk")
async def test_a_full_disk_ends_a_run_which_goes_on_when_there_is_room(own_stack: Stack, trainer: Trainer) -> None:
    asked = spec("cramped", {"iterations": 4})
    with small_disk(own_stack.settings.var_dir / "runs") as make_room:
        run = (await trainer.StartRun(StartRunRequest(spec=asked))).run
        failed = [event async for event in trainer.WatchRun(WatchRunRequest(id=run.id))][-1].run
        assert failed.state == trainer_pb2.RUN_STATE_FAILED
        assert "the disk is full" in failed.error
        make_room()
        await trainer.ResumeRun(ResumeRunRequest(id=run.id))
        final = [event async for event in trainer.WatchRun(WatchRunRequest(id=run.id))][-1].run
        assert final.state == trainer_pb2.RUN_STATE_SUCCEEDED, final.error
        assert (await trainer.GetRun(GetRunRequest(id=run.id))).run.version


@contextmanager
def small_disk(folder: Path) -> Iterator[Callable[[], None]]:
    """Puts a disk of 200 KB in the place of a folder, and gives what makes it larger."""
    folder.mkdir(parents=True, exist_ok=True)

    def mount(options: str) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "steersman-test", str(folder)], check=True)

    try:
        mount("size=200k")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this machine does not let tests mount a disk: {error}")
    try:
        yield lambda: mount("remount,size=256m")
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
