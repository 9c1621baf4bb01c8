"""An application on Ray Serve that has nothing to do with Steersman: two deployments, one of which asks the other."""

from __future__ import annotations

import math
import os
import sys

import ray
from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle
from starlette.requests import Request

SECRET = "SHOP_SECRET"  # noqa: S105 - the name of one
"""Environment variable that the application is given, and answers."""


@serve.deployment(name="stock", num_replicas=2, ray_actor_options={"num_cpus": 0.1})
class Stock:
    """Knows a secret."""

    def secret(self) -> str:
        """Gives it."""
        return os.environ.get(SECRET, "")


@serve.deployment(name="shop", ray_actor_options={"num_cpus": 0.1})
class Shop:
    """Answers plain HTTP with what the stock knows.

    Args:
        stock: The other deployment.
    """

    def __init__(self, stock: DeploymentHandle) -> None:
        self._stock = stock

    async def __call__(self, request: Request) -> dict[str, str]:
        """Answers."""
        return {"secret": await self._stock.secret.remote()}


@serve.deployment(
    name="odd",
    ray_actor_options={"num_cpus": 0.1},
    autoscaling_config={
        "min_replicas": 1,
        "max_replicas": 2,
        "metrics_interval_s": 0.1,
        "policy": {"policy_function": "services.policy.autoscaling:Autoscaler"},
    },
)
class OddReports:
    """Is scaled by Steersman's autoscaler, and reports to it as no version of Steersman does."""

    def __init__(self) -> None:
        self._reports = 0

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Makes a report."""
        self._reports += 1
        return {"load": 0.5, "mood": math.nan}

    async def __call__(self, _request: Request) -> str:
        """Answers how many reports it has made."""
        return str(self._reports)


app: Application = Shop.bind(Stock.bind())  # type: ignore[attr-defined] # what the decorator makes of them
odd_reports: Application = OddReports.bind()  # type: ignore[attr-defined] # likewise


def run(address: str, name: str, route: str) -> None:
    """Deploys the application as a program does, without a config."""
    ray.init(address=address, log_to_driver=False)
    serve.run(app, name=name, route_prefix=route)


def delete(address: str, name: str) -> None:
    """Deletes it as a program does."""
    ray.init(address=address, log_to_driver=False)
    # Without waiting until the name is gone: somebody may be waiting for it.
    serve.delete(name, _blocking=False)


if __name__ == "__main__":
    if sys.argv[1] == "run":
        run(*sys.argv[2:])
    else:
        delete(*sys.argv[2:])
