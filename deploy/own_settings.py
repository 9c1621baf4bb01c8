"""Settings for a stack of its own: free ports and an empty `var_dir`."""

from __future__ import annotations

from pathlib import Path

from deploy.free_ports import free_ports
from steersman.settings import Settings


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
