"""What a gateway's control plane needs of Ray's dashboard, for tests without replicas of Ray Serve's."""

from __future__ import annotations

import json
import threading
from typing import Any

from tests.http_server import HttpAnswer, HttpRequest


class Dashboard:
    """A dashboard that behaves like Ray's for as long as it is not told to answer something else."""

    def __init__(self) -> None:
        self.instead: HttpAnswer | None = None
        self.applications: list[dict[str, Any]] = []
        self.told_version_2 = threading.Event()

    def __call__(self, request: HttpRequest) -> HttpAnswer:
        if self.instead is not None:
            return self.instead
        if request.method == "PUT":
            self.applications = json.loads(request.body)["applications"]
            if "2" in self.applications[0]["deployments"][0]["user_config"]["versions"]:
                self.told_version_2.set()
            return HttpAnswer()
        found = {
            config["name"]: {
                "status": "RUNNING",
                "source": "declarative",
                "route_prefix": config["route_prefix"],
                "message": "",
                "deployed_app_config": config,
                "deployments": {},
            }
            for config in self.applications
        }
        return HttpAnswer(json.dumps({"applications": found}).encode())
