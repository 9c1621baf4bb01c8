"""What runs: every program of the local stack, with its command, environment, ports and readiness probe."""

from __future__ import annotations

import functools
import json
import os
import secrets
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from deploy import health, layout
from steersman.addresses import without_proxy_on_loopback
from steersman.errors import FailedPreconditionError
from steersman.settings import Settings

STACK_VARIABLE = "STEERSMAN_STACK"
"""Environment variable that marks every process of a stack; its value is the stack's absolute `var_dir`."""

# A server that does little arithmetic is slowed down by a thread for every core.
_WITHOUT_SECRETS = {"STEERSMAN_DATABASE_URL": ""}
"""For all but the gateway: its database's password is nothing to jobs, replicas and environments, which run what users
bring along, nor to a dashboard that shows what their processes were started with."""

_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Program:
    """One program of the stack.

    Attributes:
        name: Its name, also that of its log.
        command: The command line.
        address: What users connect to.
        ports: The `host:port` addresses that it listens on, by the setting that says so.
        probe: Asks whether it is ready. Called often, from several threads.
        environment: Variables besides those of `stack_environment`.
        stop_seconds: How long it may take to stop before it is killed.
    """

    name: str
    command: tuple[str, ...]
    address: str
    ports: Mapping[str, str]
    probe: Callable[[], health.Answer]
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_seconds: int = 15


def local_programs(settings: Settings) -> tuple[Program, ...]:
    """Lists the programs of the local stack.

    Args:
        settings: Their settings, with absolute paths.
    """
    return (
        ray_head(settings),
        mlflow_server(settings),
        _service(settings, "gateway", "gateway_address", "gateway_replica_address"),
        _service(settings, "trainer", "trainer_address"),
        _service(settings, "evaluator", "evaluator_address"),
    )


def ray_head(settings: Settings) -> Program:
    """Describes a Ray head that nothing outside this machine can reach."""
    dashboard = _host_and_port("ray_dashboard_url", settings.ray_dashboard_url)
    host, port = _split(dashboard)
    return Program(
        name="ray",
        command=(
            layout.ray_python(settings),
            # Not the script `ray`, whose first line cannot hold every path.
            "-m",
            "ray.scripts.scripts",
            "start",
            "--head",
            "--block",
            "--disable-usage-stats",
            "--node-ip-address=127.0.0.1",
            f"--port={_split(settings.ray_address)[1]}",
            f"--dashboard-host={host}",
            f"--dashboard-port={port}",
            # Any free port, so that several stacks can run side by side.
            "--dashboard-agent-listen-port=0",
            "--min-worker-port=0",
            "--max-worker-port=0",
            f"--num-cpus={settings.ray_logical_cpus}",
            f"--object-store-memory={settings.ray_object_store_bytes}",
            f"--temp-dir={layout.ray_folder(settings)}",
            "--log-style=record",
        ),
        address=settings.ray_dashboard_url,
        ports={
            "ray_address": settings.ray_address,
            "ray_dashboard_url": dashboard,
            "serve_http_address": settings.serve_http_address,
        },
        # Two APIs that separate processes serve, some time after the dashboard itself.
        probe=functools.partial(
            health.http_ok,
            f"{settings.ray_dashboard_url}/api/jobs/",
            f"{settings.ray_dashboard_url}/api/serve/applications/",
            token_file=settings.ray_token_file,
        ),
        environment={
            **_WITHOUT_SECRETS,
            "RAY_START_HOOK": "deploy.ray_start.prepare",
            # There is no other node that replicas could move to before this one stops.
            "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        },
        stop_seconds=20,
    )


def mlflow_server(settings: Settings) -> Program:
    """Describes an MLflow server on SQLite that also serves the artifacts."""
    address = _host_and_port("mlflow_url", settings.mlflow_url)
    host, port = _split(address)
    return Program(
        name="mlflow",
        command=(
            sys.executable,
            "-m",
            "mlflow",
            "server",
            f"--host={host}",
            f"--port={port}",
            "--workers=1",
            # Relative to `var_dir`, where it runs: MLflow takes absolute paths for URIs, and decodes them.
            "--backend-store-uri=sqlite:///mlflow/mlflow.db",
            "--artifacts-destination=mlflow/artifacts",
        ),
        address=settings.mlflow_url,
        ports={"mlflow_url": address},
        probe=functools.partial(health.http_ok, f"{settings.mlflow_url}/health"),
        # Its job runner, for judging language models, would double the time to start and the memory.
        environment={**_WITHOUT_SECRETS, **_ONE_THREAD, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
    )


def _service(settings: Settings, name: str, *addresses: str) -> Program:
    """Describes one of Steersman's own services; the first address is the one whose health counts."""
    ports = {setting: str(getattr(settings, setting)) for setting in addresses}
    address = ports[addresses[0]]
    return Program(
        name=name,
        command=(sys.executable, "-m", f"services.{name}"),
        address=address,
        ports=ports,
        probe=functools.partial(health.grpc_serving, address),
        environment=_ONE_THREAD if name == "gateway" else {**_WITHOUT_SECRETS, **_ONE_THREAD},
        stop_seconds=int(settings.shutdown_grace_seconds) + 5,
    )


def stack_environment(settings: Settings) -> dict[str, str]:
    """Gives the environment variables that all programs share, besides those of this process.

    Args:
        settings: The settings, with absolute paths.
    """
    chosen = {
        f"STEERSMAN_{name.upper()}": json.dumps(value) if isinstance(value, list) else str(value)
        for name, value in settings.model_dump(mode="json").items()
        if value is not None
    }
    return chosen | {
        STACK_VARIABLE: str(settings.var_dir),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "PYTHONUNBUFFERED": "1",
        # Sockets are made there, too, which the user's own may be too long for.
        "TMPDIR": str(layout.temporary_folder(settings)),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(settings.ray_token_file),
        # The name misleads: 0 makes every process of Ray listen on, and give as its own, 127.0.0.1. Without it,
        # `ray start --node-ip-address=127.0.0.1` takes the machine's outside address and listens on all interfaces.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_TRACKING_URI": settings.mlflow_url,
        "ORT_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        # All settings are here. A file of the folder that a program runs in is not meant for it.
        "STEERSMAN_CONFIG": os.devnull,
        **without_proxy_on_loopback(os.environ),
    }


def make_ray_token(settings: Settings) -> None:
    """Writes a fresh random token for Ray, readable by this user alone, unless there is one."""
    path = settings.ray_token_file
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(32))


def _host_and_port(setting: str, url: str) -> str:
    """Gives `host:port` of a URL, whose port may be implied.

    Raises:
        FailedPreconditionError: If it is no URL of HTTP.
    """
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname, parts.port
    except ValueError:
        scheme, host, port = "", None, None
    if scheme not in {"http", "https"} or not host:
        raise FailedPreconditionError(
            f"expected a URL such as http://127.0.0.1:5000 in STEERSMAN_{setting.upper()}, got {url!r}"
        )
    port = port or (443 if scheme == "https" else 80)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _split(address: str) -> tuple[str, str]:
    """Gives host and port of an address, an IPv6 host without its brackets."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), port
