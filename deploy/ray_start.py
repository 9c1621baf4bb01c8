"""Ray's start hook for the local stack: what `ray start` has no option for."""

from __future__ import annotations

from typing import Any


def prepare(parameters: Any, head: bool) -> None:  # noqa: ANN401, ARG001 - Ray's signature and private type
    """Leaves out the Ray Client server, which nothing here uses: a process and a port less.

    Args:
        parameters: Ray's start parameters.
        head: Whether a head is started.
    """
    parameters.ray_client_server_port = None
