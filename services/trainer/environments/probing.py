"""Asks `probe` what an environment is like: beside the trainer, or on the cluster where the user's code is."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import shlex
import signal
import sys
import uuid
from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format

from services.trainer.cluster.ray_jobs import Job, JobStatus, RayJobs
from services.trainer.environments.environment_spaces import EnvironmentSpaces
from services.trainer.environments.probe import MARK
from steersman import spaces
from steersman.errors import InvalidArgumentError, UnavailableError, from_status
from steersman.v1 import common_pb2, trainer_pb2

_POLL_SECONDS = 0.3
_TAIL = 300
_PENDING_SECONDS = 45.0
"""How long a check may wait for Ray; less than the command line waits for the answer."""


async def probe_here(environment: trainer_pb2.Environment, seconds: float) -> EnvironmentSpaces:
    """Makes an environment of an installed package once, in a process of its own.

    Args:
        environment: The environment.
        seconds: How long it may take.

    Raises:
        SteersmanError: What is wrong with the environment; InvalidArgumentError if it takes too long or crashes.
    """
    process = await asyncio.create_subprocess_exec(
        *_command(environment),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        # A group of its own, so that what the environment starts can be ended with it.
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(seconds):
            output, errors = await process.communicate()
    except TimeoutError:
        raise _hangs(environment, seconds) from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    return _read(environment, output.decode(errors="replace"), errors.decode(errors="replace"))


async def probe_on_cluster(
    environment: trainer_pb2.Environment,
    ray_jobs: RayJobs,
    variables: Mapping[str, str],
    runtime_environment: Mapping[str, Any],
    seconds: float,
) -> EnvironmentSpaces:
    """Makes an environment once in a Ray Job with the user's code.

    Args:
        environment: The environment.
        ray_jobs: Ray.
        variables: Environment variables of the job.
        runtime_environment: The code, as `RayJobs.submit` takes it.
        seconds: How long it may take, besides the time that Ray needs to start the job, which is bounded too.

    Raises:
        SteersmanError: What is wrong with the environment; InvalidArgumentError if it takes too long or crashes, or Ray
            cannot set up the code; UnavailableError if Ray cannot be reached.
    """
    job_id = f"probe-{uuid.uuid4().hex}"
    # The limit counts from the start of the process; the job's own may depend on how busy the cluster is.
    command = shlex.join(["timeout", "--kill-after=1", str(seconds), *_command(environment)])
    await ray_jobs.submit(job_id, command, variables, runtime_environment)
    try:
        job = await _ended(ray_jobs, job_id)
        output = await ray_jobs.logs(job_id)
    finally:
        # Whoever asked may have gone; nobody else will ever ask for this job.
        await asyncio.shield(_forget(ray_jobs, job_id))
    if job is not None and "exit code 124" in job.message:
        raise _hangs(environment, seconds)
    if MARK not in output and job is not None and "runtime_env" in job.message:
        reason = " ".join(job.message.split())[-_TAIL:]
        raise InvalidArgumentError(f"Ray cannot set up the run's code: {reason}")
    return _read(environment, output, output)


async def _ended(ray_jobs: RayJobs, job_id: str) -> Job | None:
    """Waits until a job has ended; None if Ray forgets it, since its head was restarted.

    Raises:
        UnavailableError: If Ray has not begun with it in time.
    """
    loop = asyncio.get_running_loop()
    begins_by = loop.time() + _PENDING_SECONDS
    while True:
        job = await ray_jobs.get(job_id)
        if job is None or job.ended:
            return job
        if job.status is JobStatus.PENDING and loop.time() > begins_by:
            raise UnavailableError(
                f"Ray has not begun to check the environment within {_PENDING_SECONDS:g} s: the cluster is busy, or "
                "sets up the code; try again later"
            )
        await asyncio.sleep(_POLL_SECONDS)


async def _forget(ray_jobs: RayJobs, job_id: str) -> None:
    await ray_jobs.stop(job_id)
    await ray_jobs.delete(job_id)


def _command(environment: trainer_pb2.Environment) -> list[str]:
    argument = base64.b64encode(environment.SerializeToString()).decode()
    return [sys.executable, "-m", "services.trainer.environments.probe", argument]


def _hangs(environment: trainer_pb2.Environment, seconds: float) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"expected an environment that can be made, reset and stepped within {seconds:g} s, {environment.id} did not "
        "return in that time"
    )


def _read(environment: trainer_pb2.Environment, output: str, errors: str) -> EnvironmentSpaces:
    lines = [line for line in output.splitlines() if line.startswith(MARK)]
    if not lines:
        tail = " ".join(errors.split())[-_TAIL:]
        raise InvalidArgumentError(
            f"expected an environment that can be made, {environment.id} ended its process: {tail}"
        )
    answer: dict[str, Any] = json.loads(lines[-1].removeprefix(MARK))
    if "error" in answer:
        raise from_status(answer["code"], answer["error"])
    observation, action = (
        spaces.to_gymnasium(json_format.ParseDict(answer[name], common_pb2.Space()))
        for name in ("observation", "action")
    )
    return EnvironmentSpaces(observation, action)
