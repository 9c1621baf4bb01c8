"""Ray Serve, in the three ways in which people use it."""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import psutil

from bench.loads import Load
from bench.models import Models
from bench.systems.system import System
from deploy import layout, stack
from deploy.free_ports import free_ports
from deploy.own_settings import own_settings
from deploy.programs import local_programs
from steersman.settings import Settings, port_of

_START_SECONDS = 120.0
_POLL_SECONDS = 0.3

APPS = "bench.systems.serve_apps"
"""Where the applications are that are compared with."""


BEST = {
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_ENABLE_DIRECT_INGRESS": "1",
    # Its default of four threads is more than small machines have processors.
    "RAY_SERVE_HAPROXY_NBTHREAD": str(min(4, max(1, (os.cpu_count() or 1) // 2))),
    # Its default of 100 requests on one connection is less than the callers of unary-128.
    "RAY_SERVE_HAPROXY_H2_FE_MAX_CONCURRENT_STREAMS": "1000",
    "RAY_SERVE_HAPROXY_H2_BE_MAX_CONCURRENT_STREAMS": "1000",
}
"""What Ray's documentation recommends for throughput, with an HAProxy that fits the machine and the loads.

With `serve_apps.grpc_best` this was the best that was found on two processors. Requests/s of unary-32 in turns taken
together, on a quiet machine: 2,015, and 1,517 with `@serve.batch`; on a busy one: 1,534, with one replica 1,262, with
access logs as well 767, with `@serve.batch` as well 674, which Ray's own sizes for HAProxy do not change (680).
"""

DEFAULT_POLLING = {"GRPC_EXPERIMENTS": ""}
"""Ray would otherwise inherit what Steersman's services choose for themselves (services/__init__.py)."""


class RayServe(System):
    """A Ray head of its own with one Serve application for each policy.

    Args:
        name: As in the results.
        builder: Import path of the function that builds the application.
        http: Whether it is asked over HTTP instead of gRPC.
        variables: Environment variables for all of Ray.
    """

    def __init__(self, name: str, builder: str, *, http: bool = False, variables: Mapping[str, str] = {}) -> None:
        self.name = name
        self._builder = builder
        self._http = http
        self._variables = dict(variables)
        self._settings: Settings | None = None

    def start(self, models: Models) -> None:
        """Starts Ray and deploys."""
        files = {policy: str(bundle.model_path) for policy, bundle in models.by_policy.items()}
        self.serve({policy: {"model": file} for policy, file in files.items()})

    def serve(self, arguments: Mapping[str, Mapping[str, Any]]) -> str:
        """Starts Ray and deploys an application for each policy.

        Args:
            arguments: What the builder is given, by the policy.

        Returns:
            The address of the gRPC ingress.
        """
        self._folder = Path(tempfile.mkdtemp(prefix="sb-", dir="/tmp"))
        settings = self._settings = own_settings(self._folder / "v")
        (ray,) = [program for program in local_programs(layout.absolute(settings)) if program.name == "ray"]
        haproxy = {
            "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(self._folder / "haproxy.cfg"),
            "RAY_SERVE_HAPROXY_SOCKET_PATH": str(self._folder / "haproxy.sock"),
            "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(self._folder),
            "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(self._folder / "haproxy.state"),
        }
        # HAProxy listens on these two on all interfaces, which Ray has no setting for, while it runs.
        for name in ("METRICS", "STATS"):
            haproxy[f"RAY_SERVE_HAPROXY_{name}_PORT"] = str(free_ports(1)[0])
        environment = {**ray.environment, **self._variables, **haproxy}
        stack.start(settings, [dataclasses.replace(ray, environment=environment)])
        self._grpc_port = free_ports(1)[0]
        self._deploy(settings, arguments)
        return f"127.0.0.1:{self._grpc_port}"

    def stop(self) -> None:
        """Stops Ray."""
        if self._settings is not None:
            stack.stop(self._settings)
            shutil.rmtree(self._folder, ignore_errors=True)
            self._settings = None

    def target(self, load: Load) -> str | None:
        """Takes every load over gRPC, and single observations of CartPole over HTTP."""
        assert self._settings is not None  # noqa: S101 - it runs
        if not self._http:
            return f"127.0.0.1:{self._grpc_port}"
        takes = load.kind == "unary" and not load.observations and load.policy == "cartpole"
        return f"http://{self._settings.serve_http_address}/cartpole" if takes else None

    def processes(self) -> Mapping[str, Sequence[psutil.Process]]:
        """Finds the processes of this Ray that requests pass through."""
        found: dict[str, list[psutil.Process]] = {"proxy": [], "replica": []}
        for process in psutil.process_iter():
            try:
                if process.environ().get("STEERSMAN_STACK") != str(self._folder / "v"):
                    continue
                title = " ".join(process.cmdline())
            except psutil.Error:
                continue
            if title.startswith("ray::ServeReplica"):
                found["replica"].append(process)
            elif title.startswith(("ray::ProxyActor", "ray::HAProxyManager")) or "haproxy" in title.split(" ")[0]:
                found["proxy"].append(process)
        return found

    def _deploy(self, settings: Settings, arguments: Mapping[str, Mapping[str, Any]]) -> None:
        applications = [
            {
                "name": policy,
                "route_prefix": f"/{policy}",
                "import_path": self._builder,
                "args": dict(given),
            }
            for policy, given in arguments.items()
        ]
        config: dict[str, Any] = {
            "proxy_location": "HeadOnly",
            "http_options": {"host": "127.0.0.1", "port": port_of(settings.serve_http_address)},
            "grpc_options": {
                "port": self._grpc_port,
                "grpc_servicer_functions": [
                    "steersman.v1.policy_pb2_grpc.add_PolicyServiceServicer_to_server",
                ],
            },
            "applications": applications[: 1 if self._http else None],
        }
        headers = {"Authorization": f"Bearer {settings.ray_token_file.read_text().strip()}"}
        with httpx.Client(base_url=settings.ray_dashboard_url, headers=headers, timeout=60, trust_env=False) as client:
            deadline = time.monotonic() + _START_SECONDS
            answer = client.put("/api/serve/applications/", json=config)
            while answer.is_server_error and time.monotonic() < deadline:
                # Ray answers before Ray Serve can take orders.
                time.sleep(_POLL_SECONDS)
                answer = client.put("/api/serve/applications/", json=config)
            if answer.is_error:
                raise RuntimeError(f"expected Ray Serve to take {self.name}, got {answer.status_code}: {answer.text}")
            while time.monotonic() < deadline:
                details = client.get("/api/serve/applications/").json()["applications"]
                states = {name: application["status"] for name, application in details.items()}
                if set(states.values()) == {"RUNNING"}:
                    return
                if "DEPLOY_FAILED" in states.values():
                    break
                time.sleep(_POLL_SECONDS)
        raise RuntimeError(f"expected Ray Serve to run {self.name}, got {details}")


def ray_serve_systems() -> list[RayServe]:
    """Lists the three."""
    return [
        RayServe("serve-grpc", f"{APPS}:grpc_defaults", variables=DEFAULT_POLLING),
        RayServe("serve-grpc-best", f"{APPS}:grpc_best", variables=BEST),
        RayServe("serve-http-torch", f"{APPS}:http_torch", http=True, variables=DEFAULT_POLLING),
    ]
