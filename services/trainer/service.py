"""TrainerService: a thin facade over MLflow, which holds the runs, and Ray Jobs, which run them.

It keeps nothing: killed and started again, it answers as before.
"""

from __future__ import annotations

import asyncio
import logging
import shlex
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc

from services.common.errors import answers_errors, answers_stream_errors
from services.trainer import code, probing, runs, validation
from services.trainer.environments import EnvironmentSpaces
from services.trainer.ray_jobs import RayJobs
from services.trainer.resources import check_schedulable
from services.trainer.tracking import TrackedRun, Tracking
from steersman.errors import SteersmanError, UnavailableError
from steersman.settings import Settings
from steersman.v1 import trainer_pb2, trainer_pb2_grpc

_Context = grpc.aio.ServicerContext[Any, Any]

_POLL_SECONDS = 0.5
_DEFAULT_LIST_LIMIT = 100
_LARGEST_LIST_LIMIT = 1000

_log = logging.getLogger(__name__)


class TrainerServicer(trainer_pb2_grpc.TrainerServiceServicer):
    """The service.

    Args:
        settings: Handed on to the jobs.
        tracking: MLflow.
        ray_jobs: Ray.
    """

    def __init__(self, settings: Settings, tracking: Tracking, ray_jobs: RayJobs) -> None:
        self._settings = settings
        self._tracking = tracking
        self._ray = ray_jobs

    @answers_errors
    async def StartRun(
        self,
        request: trainer_pb2.StartRunRequest,
        context: _Context,
    ) -> trainer_pb2.StartRunResponse:
        """Checks a run and submits it."""
        await asyncio.to_thread(validation.check_request, request.spec)
        packed = await asyncio.to_thread(code.pack, request.spec, self._settings.var_dir.absolute() / "code")
        uploaded = await code.upload(packed.code, self._ray)
        spaces = await self._probe(packed.environment, uploaded)
        spec, bundles = await asyncio.to_thread(validation.complete, packed, spaces)
        check_schedulable(bundles, await self._ray.nodes())
        run_id = await asyncio.to_thread(self._tracking.create, spec)
        try:
            await self._ray.submit(run_id, entrypoint(run_id), job_environment(self._settings), uploaded)
        except SteersmanError:
            # Should the job have started after all, it will not find its run, and end.
            await asyncio.to_thread(self._tracking.delete, run_id)
            raise
        _log.info("run %s of policy %s was submitted", run_id, spec.policy)
        return trainer_pb2.StartRunResponse(run=await self._run(run_id))

    @answers_errors
    async def GetRun(
        self,
        request: trainer_pb2.GetRunRequest,
        context: _Context,
    ) -> trainer_pb2.GetRunResponse:
        """Describes one run."""
        return trainer_pb2.GetRunResponse(run=await self._run(request.id))

    @answers_errors
    async def ListRuns(
        self,
        request: trainer_pb2.ListRunsRequest,
        context: _Context,
    ) -> trainer_pb2.ListRunsResponse:
        """Lists runs, newest first."""
        if request.policy:
            validation.check_policy_name(request.policy)
        limit = min(request.limit or _DEFAULT_LIST_LIMIT, _LARGEST_LIST_LIMIT)
        tracked = await asyncio.to_thread(self._tracking.recent, request.policy, limit)
        return trainer_pb2.ListRunsResponse(runs=await asyncio.gather(*map(self._listed, tracked)))

    @answers_stream_errors
    async def WatchRun(
        self,
        request: trainer_pb2.WatchRunRequest,
        context: _Context,
    ) -> AsyncIterator[trainer_pb2.WatchRunResponse]:
        """Follows a run until it ends."""
        run = await self._run(request.id)
        yield trainer_pb2.WatchRunResponse(run=run)
        told, seen = _news(run), request.after_iteration
        while True:
            if _news(run) != told and run.state not in runs.FINAL_STATES:
                yield trainer_pb2.WatchRunResponse(run=run)
                told = _news(run)
            for iteration in await self._iterations(run, seen):
                yield trainer_pb2.WatchRunResponse(iteration=iteration)
                seen = iteration.iteration
            if run.state in runs.FINAL_STATES:
                yield trainer_pb2.WatchRunResponse(run=run)
                return
            await asyncio.sleep(_POLL_SECONDS)
            run = await self._run(request.id)

    @answers_errors
    async def StopRun(
        self,
        request: trainer_pb2.StopRunRequest,
        context: _Context,
    ) -> trainer_pb2.StopRunResponse:
        """Stops a run and waits until it has ended."""
        while (run := await self._run(request.id)).state not in runs.FINAL_STATES:
            # Again and again: Ray forgets the order when it comes before the job's process is there.
            await self._ray.stop(request.id)
            await asyncio.sleep(_POLL_SECONDS)
        return trainer_pb2.StopRunResponse(run=run)

    async def _probe(self, environment: trainer_pb2.Environment, uploaded: dict[str, Any]) -> EnvironmentSpaces:
        """Makes the environment once, where the code for it is, and gives its spaces."""
        seconds = self._settings.environment_check_seconds
        if not uploaded:
            return await probing.probe_here(environment, seconds)
        variables = job_environment(self._settings)
        return await probing.probe_on_cluster(environment, self._ray, variables, uploaded, seconds)

    async def _iterations(self, run: trainer_pb2.Run, seen: int) -> list[trainer_pb2.Iteration]:
        """Gives what came after an iteration."""
        newest = run.latest.iteration
        if newest <= seen:
            return []
        if newest == seen + 1:
            # The usual case, which needs no further request.
            return [run.latest]
        return await asyncio.to_thread(self._tracking.iterations, run.id, seen)

    async def _run(self, run_id: str) -> trainer_pb2.Run:
        """Reads a run, and records its end where its job has ended without doing so.

        Raises:
            NotFoundError: If there is no such run.
            UnavailableError: If MLflow cannot be reached, or Ray, of whom an unfinished run's state depends.
        """
        tracked = await asyncio.to_thread(self._tracking.get, run_id)
        run = await self._reconciled(tracked)
        if run.state == trainer_pb2.RUN_STATE_STARTING and (wait := (await self._ray.waits()).get(run_id)):
            run.queue_position, run.queue_reason = wait.position, wait.reason
        return run

    async def _listed(self, tracked: TrackedRun) -> trainer_pb2.Run:
        """Does the same for a list, which is worth having without Ray too: then with the state that was last known."""
        try:
            return await self._reconciled(tracked)
        except UnavailableError:
            return runs.to_run(tracked, None)

    async def _reconciled(self, tracked: TrackedRun) -> trainer_pb2.Run:
        ended = runs.state(tracked, None) in runs.FINAL_STATES
        if ended:
            return runs.to_run(tracked, None)
        job = await self._ray.get(tracked.id)
        if runs.ending(tracked, job, _now()) is None:
            return runs.to_run(tracked, job)
        # The job may have recorded its result between the two answers.
        tracked = await asyncio.to_thread(self._tracking.get, tracked.id)
        ending = runs.ending(tracked, job, _now())
        if ending is not None:
            if ending.state == trainer_pb2.RUN_STATE_STOPPED:
                await asyncio.to_thread(self._tracking.kill, tracked.id)
            else:
                await asyncio.to_thread(self._tracking.fail, tracked.id, ending.error)
            _log.info("run %s has ended without saying so: %s", tracked.id, ending.error or "stopped")
            tracked = await asyncio.to_thread(self._tracking.get, tracked.id)
        return runs.to_run(tracked, job)


def entrypoint(run_id: str) -> str:
    """The shell command of a run's job."""
    return f"{shlex.quote(sys.executable)} -m services.trainer.job {run_id}"


def job_environment(settings: Settings) -> dict[str, str]:
    """The environment of a run's job: these settings, whatever folder it runs in, and nothing sent home."""
    absolute = settings.model_copy(
        update={"var_dir": settings.var_dir.absolute(), "ray_token_path": settings.ray_token_file.absolute()}
    )
    values = {f"STEERSMAN_{name.upper()}": value for name, value in absolute.model_dump().items()}
    return {name: str(value) for name, value in values.items() if value is not None} | {
        "DO_NOT_TRACK": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def _news(run: trainer_pb2.Run) -> tuple[int, int, str]:
    """Gives what of a run its followers are told when it changes."""
    return run.state, run.queue_position, run.queue_reason


def _now() -> int:
    return int(time.time() * 1000)
