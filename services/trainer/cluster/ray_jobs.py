"""Ray's jobs and nodes, through the REST API of Ray's dashboard.

Plain HTTP rather than Ray's own client: that one blocks, has no timeouts and imports all of Ray.
"""

from __future__ import annotations

import asyncio
import enum
import json
import os
import shlex
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import httpx

from services.trainer.cluster.run_queue import Wait, waits
from steersman.addresses import is_loopback_url
from steersman.errors import UnavailableError
from steersman.settings import Settings

# Ray answers a submission once it has placed the job's supervisor, which takes seconds on a busy machine.
_TIMEOUT_SECONDS = 60.0
_CONNECT_TIMEOUT_SECONDS = 3.0
_HEARTBEAT_SECONDS = 20.0
_JOBS_NEED = (
    "var_dir",
    "mlflow_url",
    "gateway_address",
    "evaluator_address",
    "max_message_bytes",
    "ray_token_path",
    "environment_step_seconds",
    "iteration_seconds",
    "log_level",
)
"""The settings that jobs get. Everyone who can reach Ray can read a job's environment, so what is not needed there is
left out: a setting that Steersman gets later may be a secret."""

# Before every other name.
_DOLLAR = "DOLLAR"


class JobStatus(enum.Enum):
    """Ray's name for where a job is."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    STOPPED = "STOPPED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


@dataclass(frozen=True)
class Job:
    """A job as Ray knows it.

    Attributes:
        status: Where it is.
        message: Ray's explanation of the status.
    """

    status: JobStatus
    message: str

    @property
    def ended(self) -> bool:
        """Whether it will not run any more."""
        return self.status not in {JobStatus.PENDING, JobStatus.RUNNING}


class RayJobs:
    """A client; an async context manager.

    Every method raises UnavailableError where Ray's dashboard cannot be reached, or refuses the call.

    Args:
        url: Ray's dashboard.
        token_file: File with Ray's authentication token; where there is none, the cluster is asked without.
    """

    def __init__(self, url: str, token_file: Path) -> None:
        self._url = url
        self._token_file = token_file
        # A proxy in the environment is meant for other machines.
        self._http = httpx.AsyncClient(
            base_url=url,
            timeout=httpx.Timeout(_TIMEOUT_SECONDS, connect=_CONNECT_TIMEOUT_SECONDS),
            trust_env=not is_loopback_url(url),
        )

    async def __aenter__(self) -> Self:
        """Gives the client itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def submit(
        self,
        submission_id: str,
        entrypoint: str,
        environment: Mapping[str, str],
        code: Mapping[str, Any] | None = None,
    ) -> None:
        """Submits a job.

        Args:
            submission_id: Its id, chosen by the caller.
            entrypoint: The shell command that it runs.
            environment: Environment variables of it and of all its workers.
            code: The `working_dir` and `py_modules` of Ray's runtime environment, as URIs; None for none.
        """
        await self._call(
            "POST",
            "/api/jobs/",
            json={
                "entrypoint": entrypoint,
                "submission_id": submission_id,
                "runtime_env": {"env_vars": kept_by_ray(environment), **(code or {})},
            },
        )

    async def get(self, submission_id: str) -> Job | None:
        """Gives a job; None if Ray does not know it, for instance because its head was restarted since."""
        response = await self._call("GET", f"/api/jobs/{submission_id}", missing_ok=True)
        if response is None:
            return None
        body = response.json()
        return Job(JobStatus(body["status"]), str(body.get("message") or ""))

    async def stop(self, submission_id: str) -> None:
        """Tells a job to stop: SIGTERM now and SIGKILL three seconds later. Does nothing if Ray does not know it."""
        await self._call("POST", f"/api/jobs/{submission_id}/stop", missing_ok=True)

    async def logs(self, submission_id: str) -> str:
        """Gives what a job has printed; nothing if Ray does not know it."""
        response = await self._call("GET", f"/api/jobs/{submission_id}/logs", missing_ok=True)
        return "" if response is None else str(response.json().get("logs") or "")

    async def follow_logs(self, submission_id: str) -> AsyncGenerator[str]:
        """Gives what a job prints, from its beginning on and as it comes, until it has ended.

        Args:
            submission_id: The job, which runs or has ended.
        """
        url = f"{self._url}/api/jobs/{submission_id}/logs/tail"
        try:
            async with (
                aiohttp.ClientSession(trust_env=not is_loopback_url(self._url)) as session,
                session.ws_connect(url, headers=self._headers(), heartbeat=_HEARTBEAT_SECONDS) as socket,
            ):
                async for message in socket:
                    if message.type is aiohttp.WSMsgType.TEXT:
                        yield message.data
        except (aiohttp.ClientError, TimeoutError) as error:
            raise UnavailableError(
                f"Ray at {self._url} does not tell what job {submission_id} prints: {error}"
            ) from error

    async def delete(self, submission_id: str) -> None:
        """Makes Ray forget a job that has ended. Does nothing if it does not know it, or it goes on."""
        await self._call("DELETE", f"/api/jobs/{submission_id}", missing_ok=True)

    async def upload(self, name: str, package: bytes) -> str:
        """Uploads a .zip file, unless Ray has it, and gives the URI under which runtime environments find it.

        Args:
            name: Its name, which stands for its content.
            package: Its bytes.
        """
        path = f"/api/packages/gcs/{name}"
        if await self._call("GET", path, missing_ok=True) is None:
            await self._call("PUT", path, content=package)
        return f"gcs://{name}"

    async def nodes(self) -> Sequence[Mapping[str, float]]:
        """Gives the resources, such as {"CPU": 16.0}, of each node that is alive."""
        response = await self._call("GET", "/api/v0/nodes", params={"detail": "true", "limit": "10000"})
        assert response is not None  # noqa: S101 - only missing_ok gives None
        found: list[dict[str, Any]] = response.json()["data"]["result"]["result"]
        return [node["resources_total"] for node in found if node["state"] == "ALIVE"]

    async def waits(self) -> dict[str, Wait]:
        """Tells which jobs wait for resources that others use now, by their submission ids."""
        every = {"detail": "true", "limit": "10000"}
        jobs, groups, status = await asyncio.gather(
            self._call("GET", "/api/v0/jobs", params=every),
            self._call("GET", "/api/v0/placement_groups", params=every),
            self._call("GET", "/api/cluster_status"),
        )
        assert jobs is not None and groups is not None and status is not None  # noqa: S101, PT018 - as above
        report = status.json()["data"]["clusterStatus"].get("loadMetricsReport") or {}
        return waits(
            jobs.json()["data"]["result"]["result"],
            groups.json()["data"]["result"]["result"],
            report.get("usage") or {},
        )

    async def _call(
        self,
        method: str,
        path: str,
        *,
        missing_ok: bool = False,
        **arguments: Any,  # noqa: ANN401 - httpx's own
    ) -> httpx.Response | None:
        try:
            response = await self._http.request(method, path, headers=self._headers(), **arguments)
        except httpx.HTTPError as error:
            raise UnavailableError(f"Ray at {self._url} does not answer: {error or type(error).__name__}") from error
        if missing_ok and response.status_code == httpx.codes.NOT_FOUND:
            return None
        if response.is_error:
            reason = (response.text.strip().splitlines() or [response.reason_phrase])[-1]
            raise UnavailableError(
                f"Ray at {self._url} refused {method} {path} with status {response.status_code}: {reason}"
            )
        return response

    def _headers(self) -> dict[str, str]:
        # Read every time: a new Ray may have a new token.
        if not self._token_file.is_file():
            return {}
        return {"Authorization": f"Bearer {self._token_file.read_text().strip()}"}


def entrypoint(run_id: str, attempt: int) -> str:
    """The shell command of a run's job."""
    return f"{shlex.quote(sys.executable)} -m services.trainer.job {run_id} {attempt}"


def kept_by_ray(environment: Mapping[str, str]) -> dict[str, str]:
    """Writes a job's environment variables so that it gets them as they are.

    Ray replaces `$NAME` and `${NAME}` in their values, one variable after the other in the order of their names. It
    does not read again what it has put in.
    """
    if not any("$" in value for value in environment.values()):
        return dict(environment)
    return {_DOLLAR: "$"} | {name: value.replace("$", f"${{{_DOLLAR}}}") for name, value in environment.items()}


def job_environment(settings: Settings) -> dict[str, str]:
    """The environment of a run's job: the settings that it needs, whatever folder it runs in, and nothing sent home."""
    absolute = settings.model_copy(
        update={"var_dir": settings.var_dir.absolute(), "ray_token_path": settings.ray_token_file.absolute()}
    )
    needed = absolute.model_dump(mode="json", include=set(_JOBS_NEED))
    values = {f"STEERSMAN_{name.upper()}": value for name, value in needed.items()}
    return {
        name: json.dumps(value) if isinstance(value, list) else str(value)
        for name, value in values.items()
        if value is not None
    } | {
        # A file of the folder that a job runs in is not meant for it.
        "STEERSMAN_CONFIG": os.devnull,
        "DO_NOT_TRACK": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
