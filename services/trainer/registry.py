"""Bundles in MLflow's model registry: every run publishes the next version of its policy."""

from __future__ import annotations

from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from services.common.bundle import Bundle

_FOLDER = "bundle"


def register(client: MlflowClient, policy: str, run_id: str, bundle: Bundle, evaluated_return: float) -> int:
    """Uploads a bundle as an artifact of its run and registers it as the next version of a policy.

    Args:
        client: MLflow's client.
        policy: The policy's name.
        run_id: The run that made it.
        bundle: The bundle.
        evaluated_return: Its mean return, played greedily.

    Returns:
        The version. Its source is the artifact folder that holds the bundle's files.
    """
    client.log_artifacts(run_id, str(bundle.folder), _FOLDER)
    try:
        client.create_registered_model(policy)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    artifacts: str = client.get_run(run_id).info.artifact_uri
    tags: dict[str, Any] = {
        "environment": bundle.spec.environment_id,
        "algorithm": bundle.spec.algorithm,
        "run_id": run_id,
        "model_sha256": bundle.spec.model_sha256,
        "return": f"{evaluated_return:g}",
    }
    version = client.create_model_version(policy, f"{artifacts}/{_FOLDER}", run_id=run_id, tags=tags)
    return int(version.version)
