"""What is wanted, in Ray Serve's words. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from services.gateway.control.desired import DesiredPolicy
from services.gateway.control.ray_serve import Application
from services.gateway.control.scaling import Scale, actor_options, autoscaling_config, written_scale
from steersman.settings import Settings

DEPLOYMENT = "policy"
"""Name of the one deployment of each application."""

_IMPORT_PATH = "services.policy.deployment:build"


def application(settings: Settings, gateways: Sequence[str], policy: DesiredPolicy) -> Application:
    """Writes the application of a policy.

    Args:
        settings: For what replicas are told.
        gateways: Internal addresses of all gateways, which replicas attach to.
        policy: What is wanted of it.
    """
    return {
        "name": policy.name,
        "route_prefix": f"/{policy.name}",
        "import_path": _IMPORT_PATH,
        "args": {
            "policy": policy.name,
            # In an order that all gateways agree on; a difference would restart the replicas.
            "gateways": sorted(gateways),
            "max_batch_size": settings.max_batch_size,
            "max_queue_delay_microseconds": settings.max_queue_delay_microseconds,
            "max_message_bytes": settings.max_message_bytes,
            "cache": str(Path(settings.var_dir, "bundles").absolute()),
            "mlflow_url": settings.mlflow_url,
        },
        "deployments": [
            {
                "name": DEPLOYMENT,
                "autoscaling_config": autoscaling_config(policy.scale, settings),
                # Versions are what running replicas take in without a restart.
                "user_config": {
                    "versions": {str(version): uri for version, uri in policy.uris.items()},
                    "default": policy.route.main_version,
                    # Whenever somebody changes what is wanted, Ray Serve tries again what has failed.
                    "revision": policy.revision,
                },
                "ray_actor_options": actor_options(policy.scale),
                "graceful_shutdown_timeout_s": settings.shutdown_grace_seconds,
            }
        ],
    }


def is_policy(config: dict[str, Any] | None) -> bool:
    """Tells whether an application is a policy of Steersman's."""
    return config is not None and config.get("import_path") == _IMPORT_PATH


def covers(found: object, wanted: object) -> bool:
    """Tells whether a config says all that is wanted; what Ray Serve has added to it does not matter."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        # Versions that are not wanted any more have to go, so the user's own config is compared whole.
        return all(
            key in found and (found[key] == value if key == "user_config" else covers(found[key], value))
            for key, value in wanted.items()
        )
    if isinstance(wanted, list) and isinstance(found, list):
        return len(found) == len(wanted) and all(map(covers, found, wanted))
    return found == wanted


def adoptable(config: dict[str, Any]) -> tuple[int, str, Scale]:
    """Reads a policy's version, that one's bundle and its scale from an application that is there already.

    Raises:
        KeyError: If it is no config that Steersman has ever written; or TypeError, ValueError.
    """
    deployment = config["deployments"][0]
    versions = {int(version): uri for version, uri in deployment["user_config"]["versions"].items()}
    version = deployment["user_config"].get("default", max(versions))
    return version, versions[version], written_scale(deployment)
