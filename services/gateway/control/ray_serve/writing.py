"""Writes what is submitted to Ray Serve: `ServeApplicationSchema` of `ray.serve.schema`, as JSON. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from services.gateway.control.desired import NAME_LENGTH, DesiredPolicy, RunningPolicy
from services.gateway.control.ray_serve.applications import ApplicationConfig
from services.gateway.control.scaling import Scale
from steersman.errors import InvalidArgumentError
from steersman.settings import Settings

DEPLOYMENT = "policy"
"""Name of the one deployment of each of Steersman's applications."""

_IMPORT_PATH = "services.policy.deployment:build"
_AUTOSCALER = "services.policy.autoscaling:Autoscaler"


def write_application(settings: Settings, gateways: Sequence[str], policy: DesiredPolicy) -> ApplicationConfig:
    """Writes the application of a policy.

    Args:
        settings: For the arguments of replicas.
        gateways: Internal addresses of all gateways, which replicas attach to.
        policy: What is wanted of it.
    """
    config = {
        "name": policy.name,
        "route_prefix": route_of(policy.name),
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
                "ray_actor_options": _actor_options(policy.scale),
                "graceful_shutdown_timeout_s": settings.shutdown_grace_seconds,
            }
        ],
    }
    return ApplicationConfig(policy.name, is_policy(config), config)


def route_of(policy: str) -> str:
    """Gives where plain HTTP reaches a policy."""
    return f"/{policy}"


def is_policy(config: Mapping[str, Any]) -> bool:
    """Tells whether a config is one of Steersman's."""
    return config.get("import_path") == _IMPORT_PATH


def covers(found: ApplicationConfig, wanted: ApplicationConfig) -> bool:
    """Tells whether a config says all that is wanted; what Ray Serve has added to it does not matter."""
    return _covers(found.json, wanted.json)


def read_running_policy(config: ApplicationConfig) -> RunningPolicy:
    """Reads a policy back from the config that `write_application` made, of this or an earlier Steersman.

    Raises:
        InvalidArgumentError: If Steersman has never written such a config.
    """
    try:
        return _running_policy(config)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise InvalidArgumentError(
            f"expected a config that Steersman has written for application {config.name!r}, got another one: {error!r}"
        ) from error


def autoscaling_config(scale: Scale, settings: Settings) -> dict[str, Any]:
    """Writes the `autoscaling_config` of a Serve deployment.

    It is written also where the number of replicas is fixed: Ray Serve starts to collect reports only in replicas that
    have one from the beginning.

    Args:
        scale: How far the policy may be scaled.
        settings: What the autoscaler aims at.
    """
    interval = settings.autoscaling_interval_seconds
    return {
        "min_replicas": scale.min_replicas,
        "max_replicas": scale.max_replicas,
        "metrics_interval_s": interval,
        # Replicas make a report every fifth of this, and send those of as long each interval; the window that the
        # autoscaler looks back on is its own.
        "look_back_period_s": 2.5 * interval,
        # The autoscaler decides when; Ray Serve is to do it at once.
        "upscale_delay_s": 0.0,
        "downscale_delay_s": 0.0,
        "downscale_to_zero_delay_s": 0.0,
        "policy": {
            "policy_function": _AUTOSCALER,
            "policy_kwargs": {
                "target_share": settings.autoscaling_target_share,
                "look_back_seconds": settings.autoscaling_look_back_seconds,
                "drain_seconds": settings.autoscaling_drain_seconds,
                "idle_seconds": settings.autoscaling_idle_seconds,
            },
        },
    }


def _actor_options(scale: Scale) -> dict[str, float]:
    """Writes the `ray_actor_options` of a Serve deployment."""
    options = {"num_cpus": scale.replica_cpus}
    if scale.replica_gpus:
        options["num_gpus"] = scale.replica_gpus
    return options


def _covers(found: object, wanted: object) -> bool:
    if isinstance(wanted, dict) and isinstance(found, dict):
        # Versions that are not wanted any more have to go, so the user's own config is compared whole.
        return all(
            key in found and (found[key] == value if key == "user_config" else _covers(found[key], value))
            for key, value in wanted.items()
        )
    if isinstance(wanted, list) and isinstance(found, list):
        return len(found) == len(wanted) and all(map(_covers, found, wanted))
    return found == wanted


def _running_policy(config: ApplicationConfig) -> RunningPolicy:
    deployment = config.json["deployments"][0]
    versions = {int(version): str(uri) for version, uri in deployment["user_config"]["versions"].items()}
    version = int(deployment["user_config"].get("default", max(versions)))
    if version < 1 or len(config.name) > NAME_LENGTH:
        raise ValueError(f"version {version} of {config.name!r}")
    limits, options = deployment["autoscaling_config"], deployment["ray_actor_options"]
    scale = Scale(
        int(limits["min_replicas"]),
        int(limits["max_replicas"]),
        float(options.get("num_cpus", 0.0)),
        float(options.get("num_gpus", 0.0)),
    )
    return RunningPolicy(version, versions[version], scale)
