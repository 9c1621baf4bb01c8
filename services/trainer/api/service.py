"""TrainerService: a thin facade over MLflow, which holds the runs, and Ray Jobs, which run them.

It keeps nothing: killed and started again, it answers as before.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import grpc

from services.trainer.api import provenance, validation
from services.trainer.cluster import packed_code
from services.trainer.cluster.ray_jobs import RayJobs, entrypoint, job_environment
from services.trainer.cluster.resources import check_schedulable
from services.trainer.environments import probing
from services.trainer.environments.environment_spaces import EnvironmentSpaces
from services.trainer.job.sweeps.trial_records import end_trials, read_trials
from services.trainer.records import runs, tracking
from services.trainer.records.heartbeat import Life, last_beat, life_of
from services.trainer.records.tracking import TrackedRun, Tracking
from steersman.errors import AbortedError, FailedPreconditionError, SteersmanError, UnavailableError
from steersman.settings import Settings
from steersman.v1 import trainer_pb2, trainer_pb2_grpc

_Context = grpc.aio.ServicerContext[Any, Any]

_POLL_SECONDS = 0.5
_DEFAULT_LIST_LIMIT = 100
_LARGEST_LIST_LIMIT = 1000
_EXPORT_SECONDS = 90.0
"""How long a run may take to export what it has learnt when it is stopped; then it is stopped without."""

_LOG_PIECE = 64 * 1024
_TEXTS_AHEAD = 16
"""Pieces of a log that are read before whoever follows it takes them."""

_TRAINING = frozenset({trainer_pb2.RUN_STATE_STARTING, trainer_pb2.RUN_STATE_RUNNING, trainer_pb2.RUN_STATE_EVALUATING})
_RESUMABLE = frozenset({trainer_pb2.RUN_STATE_FAILED, trainer_pb2.RUN_STATE_STOPPED})

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
        # Of this process; a trainer is one.
        self._resuming: set[str] = set()

    async def StartRun(
        self,
        request: trainer_pb2.StartRunRequest,
        context: _Context,
    ) -> trainer_pb2.StartRunResponse:
        """Checks a run and submits it."""
        await asyncio.to_thread(validation.check_request, request.spec)
        asked = await asyncio.to_thread(provenance.complete_start, request.spec, self._tracking, self._settings.var_dir)
        commit = await asyncio.to_thread(provenance.git_commit, asked.code)
        packed = await asyncio.to_thread(packed_code.pack, asked, self._settings.var_dir.absolute() / "code")
        uploaded = await packed_code.upload(packed.code, self._ray)
        spaces = await self._probe(packed.environment, uploaded)
        spec, bundles = await asyncio.to_thread(validation.complete, packed, spaces)
        check_schedulable(bundles, await self._ray.nodes())
        run_id = await asyncio.to_thread(self._tracking.create, spec, commit)
        try:
            await self._ray.submit(run_id, entrypoint(run_id, 1), job_environment(self._settings), uploaded)
        except SteersmanError:
            # Should the job have started after all, it will not find its run, and end.
            await asyncio.to_thread(self._tracking.delete, run_id)
            raise
        _log.info("run %s of policy %s was submitted", run_id, spec.policy)
        return trainer_pb2.StartRunResponse(run=await self._run(run_id))

    async def ResumeRun(
        self,
        request: trainer_pb2.ResumeRunRequest,
        context: _Context,
    ) -> trainer_pb2.ResumeRunResponse:
        """Submits a run again that failed or was stopped."""
        if request.id in self._resuming:
            raise AbortedError(f"expected nobody else to resume run {request.id} at this moment, but somebody does")
        self._resuming.add(request.id)
        try:
            return await self._resume(request)
        finally:
            self._resuming.discard(request.id)

    async def _resume(self, request: trainer_pb2.ResumeRunRequest) -> trainer_pb2.ResumeRunResponse:
        run = await self._run(request.id)
        if run.state not in _RESUMABLE:
            name = trainer_pb2.RunState.Name(run.state).removeprefix("RUN_STATE_")
            raise FailedPreconditionError(
                f"expected a run that failed or was stopped to resume, got one that is {name}"
            )
        uploaded = await packed_code.upload(run.spec.code, self._ray)
        tracked = await asyncio.to_thread(self._tracking.resume, run.id, run.attempt + 1)
        try:
            command = entrypoint(run.id, tracked.attempt)
            await self._ray.submit(runs.job_id(tracked), command, job_environment(self._settings), uploaded)
        except SteersmanError as error:
            await asyncio.to_thread(self._tracking.end, run.id, tracking.FAILED, f"it could not be resumed: {error}")
            raise
        _log.info("run %s was resumed, attempt %d", run.id, tracked.attempt)
        return trainer_pb2.ResumeRunResponse(run=await self._run(run.id))

    async def GetRun(
        self,
        request: trainer_pb2.GetRunRequest,
        context: _Context,
    ) -> trainer_pb2.GetRunResponse:
        """Describes one run."""
        return trainer_pb2.GetRunResponse(run=await self._run(request.id))

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
        return trainer_pb2.ListRunsResponse(runs=await asyncio.gather(*map(self._reconciled, tracked)))

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

    async def StopRun(
        self,
        request: trainer_pb2.StopRunRequest,
        context: _Context,
    ) -> trainer_pb2.StopRunResponse:
        """Stops a run and waits until it has ended."""
        run = await self._run(request.id)
        if request.export and run.state in _TRAINING:
            await asyncio.to_thread(self._tracking.ask_to_stop, request.id)
            deadline = time.monotonic() + _EXPORT_SECONDS
            while run.state not in runs.FINAL_STATES and time.monotonic() < deadline:
                await asyncio.sleep(_POLL_SECONDS)
                run = await self._run(request.id)
        while run.state not in runs.FINAL_STATES:
            # Again and again: Ray forgets the order when it comes before the job's process is there.
            name = runs.job_name(run.id, run.attempt)
            await self._ray.stop(name)
            if run.state in _TRAINING and await self._ray.get(name) is None:
                # A process that Ray does not know any more ends when it sees that its run has.
                await asyncio.to_thread(self._tracking.end, run.id, tracking.KILLED)
            await asyncio.sleep(_POLL_SECONDS)
            run = await self._run(request.id)
        return trainer_pb2.StopRunResponse(run=run)

    async def ReadRunLog(
        self,
        request: trainer_pb2.ReadRunLogRequest,
        context: _Context,
    ) -> AsyncIterator[trainer_pb2.ReadRunLogResponse]:
        """Gives what a run has printed, from all of its attempts that Ray still knows."""
        run = await self._run(request.id)
        for attempt in range(1, run.attempt):
            for piece in _pieces(await self._ray.logs(runs.job_name(run.id, attempt))):
                yield piece
        name, told = runs.job_name(run.id, run.attempt), 0
        if request.follow:
            async with aclosing(self._printed(run)) as texts:
                async for text in texts:
                    told += len(text)
                    for piece in _pieces(text):
                        yield piece
        # What was printed at the very end, by a process that died, comes to nobody who follows.
        for piece in _pieces((await self._ray.logs(name))[told:]):
            yield piece

    async def _printed(self, run: trainer_pb2.Run) -> AsyncGenerator[str]:
        """Gives what a run's latest attempt prints, as it comes, until the run has ended."""
        texts: asyncio.Queue[str] = asyncio.Queue(_TEXTS_AHEAD)
        following = asyncio.create_task(self._follow(runs.job_name(run.id, run.attempt), texts))
        try:
            while run.state not in runs.FINAL_STATES:
                until = time.monotonic() + _POLL_SECONDS
                while (left := until - time.monotonic()) > 0:
                    try:
                        yield await asyncio.wait_for(texts.get(), left)
                    except TimeoutError:
                        break
                run = await self._run(run.id)
            while not texts.empty():
                yield texts.get_nowait()
        finally:
            following.cancel()

    async def _follow(self, job: str, texts: asyncio.Queue[str]) -> None:
        """Puts what a job prints into a queue, once, also where Ray goes away and comes back, or has not begun it."""
        told = 0
        while True:
            seen = 0
            with contextlib.suppress(UnavailableError):
                async with aclosing(self._ray.follow_logs(job)) as printed:
                    async for text in printed:
                        seen += len(text)
                        if seen > told:
                            await texts.put(text[told - seen :])
                            told = seen
            await asyncio.sleep(_POLL_SECONDS)

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
            UnavailableError: If MLflow cannot be reached.
        """
        tracked = await asyncio.to_thread(self._tracking.get, run_id)
        run = await self._reconciled(tracked)
        if run.spec.HasField("sweep"):
            run.trials.extend(await asyncio.to_thread(read_trials, self._tracking, run_id))
        if run.state == trainer_pb2.RUN_STATE_STARTING and not run.warning:
            wait = (await self._ray.waits()).get(runs.job_id(tracked))
            if wait is not None:
                run.state = trainer_pb2.RUN_STATE_QUEUED
                run.queue_position, run.queue_reason = wait.position, wait.reason
        return run

    async def _reconciled(self, tracked: TrackedRun) -> trainer_pb2.Run:
        if tracked.status in tracking.FINAL:
            return runs.to_run(tracked, None)
        try:
            job = await self._ray.get(runs.job_id(tracked))
        except UnavailableError as error:
            # Worth telling without Ray too: as it was last known.
            return await self._without_ray(tracked, str(error))
        life = await self._life(tracked)
        if runs.ending(tracked, job, life, _now()) is not None:
            # The job may have recorded its result between the two answers.
            tracked = await asyncio.to_thread(self._tracking.get, tracked.id)
            ending = runs.ending(tracked, job, life, _now())
            if ending is not None:
                return await self._ended(tracked, ending)
        return _warned(runs.to_run(tracked, job), runs.contradiction(job, life))

    async def _without_ray(self, tracked: TrackedRun, why: str) -> trainer_pb2.Run:
        life = await self._life(tracked)
        if runs.ending_without_ray(life) is not None:
            tracked = await asyncio.to_thread(self._tracking.get, tracked.id)
            ending = None if tracked.status in tracking.FINAL else runs.ending_without_ray(life)
            if ending is not None:
                return await self._ended(tracked, ending)
            return runs.to_run(tracked, None)
        return _warned(runs.to_run(tracked, None), runs.unknown(life, why))

    async def _life(self, tracked: TrackedRun) -> Life:
        """Tells what is known of a run's process without Ray."""
        folder = self._settings.var_dir.absolute() / "runs" / tracked.id
        heartbeat = await asyncio.to_thread(last_beat, folder)
        return life_of(heartbeat, tracked.attempt, time.time())

    async def _ended(self, tracked: TrackedRun, ending: runs.Ending) -> trainer_pb2.Run:
        """Records how a run ended that did not do so itself."""
        stopped = ending.state == trainer_pb2.RUN_STATE_STOPPED
        status = tracking.KILLED if stopped else tracking.FAILED
        await asyncio.to_thread(self._tracking.end, tracked.id, status, ending.error)
        if tracked.spec.HasField("sweep"):
            await asyncio.to_thread(end_trials, self._tracking, tracked.id)
        _log.info("run %s has ended without saying so: %s", tracked.id, ending.error or "stopped")
        return runs.to_run(await asyncio.to_thread(self._tracking.get, tracked.id), None)


def _pieces(text: str) -> Iterator[trainer_pb2.ReadRunLogResponse]:
    """Cuts a text into messages."""
    for start_of_piece in range(0, len(text), _LOG_PIECE):
        yield trainer_pb2.ReadRunLogResponse(text=text[start_of_piece : start_of_piece + _LOG_PIECE])


def _warned(run: trainer_pb2.Run, warning: str) -> trainer_pb2.Run:
    """Adds to what is said of a run."""
    if warning:
        run.warning = f"{run.warning}; {warning}" if run.warning else warning
    return run


def _news(run: trainer_pb2.Run) -> tuple[object, ...]:
    """Gives what of a run its followers are told when it changes."""
    return run.state, run.queue_position, run.queue_reason, *(trial.state for trial in run.trials)


def _now() -> int:
    return int(time.time() * 1000)
