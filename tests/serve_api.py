"""Ray Serve as its other users see it: applications that are declared by config, or run by a program."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import httpx

from deploy import programs
from steersman.settings import Settings
from tests.foreign_application import SECRET

_SECONDS = 90.0


class ServeApi:
    """Ray Serve of a stack.

    Args:
        settings: The stack's settings.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._url = f"{settings.ray_dashboard_url}/api/serve/applications/"

    def details(self) -> dict[str, Any]:
        """Gives all that Ray Serve says."""
        details: dict[str, Any] = self._call("GET").json()
        return details

    def application(self, name: str) -> dict[str, Any]:
        """Gives what it says of one application; nothing if there is none."""
        found: dict[str, Any] = self.details()["applications"].get(name, {})
        return found

    def replicas(self, name: str) -> set[str]:
        """Gives the replicas of an application, with their processes."""
        return {
            f"{replica['replica_id']} in {replica['pid']}"
            for deployment in self.application(name)["deployments"].values()
            for replica in deployment["replicas"]
        }

    def declare(self, name: str, route: str | None, secret: str, app: str = "app") -> None:
        """Deploys an application of `tests.foreign_application` beside all else that was declared; it runs then."""
        config = {
            "name": name,
            "route_prefix": route,
            "import_path": f"tests.foreign_application:{app}",
            "runtime_env": {"env_vars": {SECRET: secret}},
        }
        self._put([*self._declared_besides(name), config])
        self.until_running(name)

    def withdraw(self, name: str) -> None:
        """Deletes an application that was declared, and waits until it is gone."""
        self.drop(name)
        self.until(lambda: not self.application(name))

    def drop(self, name: str) -> None:
        """Deletes an application that was declared; it may be declared again at once."""
        self._put(self._declared_besides(name))

    def run(self, name: str, route: str) -> None:
        """Deploys the foreign application as a program does, and waits until it runs."""
        self._program("run", name, route)
        self.until_running(name)

    def delete(self, name: str) -> None:
        """Deletes an application as a program does, and waits until it is gone, or another one has its name."""
        self._program("delete", name)
        self.until(lambda: self.application(name).get("source") != "imperative")

    def set_target_capacity(self, percent: float) -> None:
        """Limits all applications to a percentage of their replicas."""
        self._put(self._declared_besides(""), target_capacity=percent)

    def until_running(self, name: str) -> None:
        """Waits until an application runs."""
        self.until(lambda: self.application(name).get("status") == "RUNNING")

    def until(self, condition: Callable[[], bool]) -> None:
        """Waits for a condition."""
        deadline = time.monotonic() + _SECONDS
        while not condition():
            assert time.monotonic() < deadline, self.details()["applications"]
            time.sleep(0.1)

    def get(self, route: str) -> httpx.Response:
        """Asks plain HTTP."""
        return httpx.get(f"http://{self._settings.serve_http_address}{route}", timeout=30, trust_env=False)

    def _declared_besides(self, name: str) -> list[dict[str, Any]]:
        return [
            found["deployed_app_config"]
            for other, found in self.details()["applications"].items()
            if other != name and found["source"] == "declarative" and found["status"] != "DELETING"
        ]

    def _put(self, applications: list[dict[str, Any]], **fields: object) -> None:
        self._call("PUT", {"applications": applications, **fields})

    def _call(self, method: str, body: object = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self._settings.ray_token_file.read_text().strip()}"}
        response = httpx.request(method, self._url, json=body, headers=headers, timeout=60, trust_env=False)
        return response.raise_for_status()

    def _program(self, *arguments: str) -> None:
        command, *rest = arguments
        subprocess.run(
            [sys.executable, "-m", "tests.foreign_application", command, self._settings.ray_address, *rest],
            env=os.environ | programs.stack_environment(self._settings),
            check=True,
            timeout=_SECONDS,
        )
