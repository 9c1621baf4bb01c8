"""An application of somebody else, as Ray Serve's replicas import it."""

from __future__ import annotations

from typing import Any

from ray import serve
from ray.serve import Application
from starlette.requests import Request


class Foreign:
    """Says who it is."""

    async def __call__(self, _: Request) -> str:
        """Answers a request."""
        return "somebody else's"


def build(_: dict[str, Any]) -> Application:
    """Builds the application."""
    options = {"num_cpus": 0.01}
    return serve.deployment(Foreign, ray_actor_options=options, logging_config={"enable_access_log": False}).bind()
