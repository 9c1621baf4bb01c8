"""Settings for a stack of its own: free ports and an empty `var_dir`."""

from __future__ import annotations

import random
import socket
from pathlib import Path

from steersman.settings import Settings

# Below the range from which the system takes ports for outgoing connections: one of those could be given away between
# being found free and being listened on.
_RANGE = range(20_000, 32_000)


def free_ports(count: int) -> list[int]:
    """Finds distinct ports of 127.0.0.1 that nobody listens on.

    Args:
        count: How many.
    """
    found: list[int] = []
    for port in random.sample(_RANGE, len(_RANGE)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise OSError(f"expected {count} free ports in {_RANGE}, found {len(found)}")


def own_settings(var_dir: Path) -> Settings:
    """Makes settings with free ports everywhere, so that a stack of tests and one of a user can run side by side.

    Args:
        var_dir: Folder for the state; absolute, and short because of Unix sockets.
    """
    addresses = (
        "gateway_address",
        "gateway_replica_address",
        "trainer_address",
        "evaluator_address",
        "ray_address",
        "serve_http_address",
    )
    *ports, mlflow, dashboard = free_ports(len(addresses) + 2)
    chosen = {name: f"127.0.0.1:{port}" for name, port in zip(addresses, ports, strict=True)}
    return Settings.model_validate(
        {
            "var_dir": var_dir,
            "mlflow_url": f"http://127.0.0.1:{mlflow}",
            "ray_dashboard_url": f"http://127.0.0.1:{dashboard}",
            # What a user has minutes for, tests have seconds for.
            "autoscaling_look_back_seconds": 6,
            "autoscaling_idle_seconds": 4,
            **chosen,
        }
    )
