"""Ray's start hook for further nodes on loopback, which `ray start` refuses."""

from __future__ import annotations

from typing import Any

from ray._private import ray_constants, services

from deploy import ray_start


def prepare(parameters: Any, head: bool) -> None:  # noqa: ANN401 - Ray's signature and private type
    """Lets a node join a head on 127.0.0.1.

    What keeps every process of Ray on 127.0.0.1 (see `deploy.programs.stack_environment`) also forbids more than one
    node, in `ray start` alone; and without it `ray start` would look for the head at the machine's outside address.

    Args:
        parameters: Ray's start parameters.
        head: Whether a head is started.
    """
    ray_start.prepare(parameters, head)
    ray_constants.ENABLE_RAY_CLUSTER = True
    services.canonicalize_bootstrap_address = lambda address, **_: address
