"""An application on Ray Serve that has nothing to do with Steersman: two deployments, one of which asks the other."""

from __future__ import annotations

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


app: Application = Shop.bind(Stock.bind())  # type: ignore[attr-defined] # what the decorator makes of them


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
