"""The Serve application of a policy, as Ray Serve's REST API takes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from services.gateway.ray_serve import Application
from services.gateway.scaling import Scale, actor_options, autoscaling_config
from steersman.settings import Settings

IMPORT_PATH = "services.policy.deployment:build"
DEPLOYMENT = "policy"
"""Name of the one deployment of each application."""


def write_application(
    policy: str, versions: Mapping[int, str], scale: Scale, gateways: Sequence[str], settings: Settings
) -> Application:
    """Writes the application of a policy.

    Args:
        policy: The policy, which the application is named after.
        versions: For each version that replicas are to hold, where its bundle is read from.
        scale: How far it may be scaled.
        gateways: Internal addresses of all gateways, which replicas attach to.
        settings: For what replicas are told.
    """
    return {
        "name": policy,
        "route_prefix": f"/{policy}",
        "import_path": IMPORT_PATH,
        "args": {
            "policy": policy,
            "gateways": list(gateways),
            "max_batch_size": settings.max_batch_size,
            "max_queue_delay_microseconds": settings.max_queue_delay_microseconds,
            "max_message_bytes": settings.max_message_bytes,
            "cache": str(Path(settings.var_dir, "bundles").absolute()),
            "mlflow_url": settings.mlflow_url,
        },
        "deployments": [
            {
                "name": DEPLOYMENT,
                "autoscaling_config": autoscaling_config(scale, settings),
                # Versions are what running replicas take in without a restart.
                "user_config": {"versions": {str(version): uri for version, uri in versions.items()}},
                "ray_actor_options": actor_options(scale),
                "graceful_shutdown_timeout_s": settings.shutdown_grace_seconds,
            }
        ],
    }
