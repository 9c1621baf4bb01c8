"""Versions in MLflow's model registry: every run publishes the next ones of its policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import json_format
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.exceptions import MlflowException

from services.common.bundle import Bundle
from steersman.errors import NotFoundError
from steersman.quoting import quoted
from steersman.v1 import trainer_pb2

_BUNDLE = "bundle"
_CHECKPOINT = "checkpoint"


def register(
    client: MlflowClient, run: trainer_pb2.Run, bundle: Bundle, checkpoint: Path, iteration: trainer_pb2.Iteration
) -> int:
    """Uploads a bundle and its checkpoint as artifacts of its run and registers the next version of a policy.

    Args:
        client: MLflow's client.
        run: The run that made it.
        bundle: The bundle.
        checkpoint: The RLlib checkpoint that it was exported from, for those who train on.
        iteration: The iteration that both are of.

    Returns:
        The version. Its source is the artifact folder that holds the bundle's files.
    """
    folder = f"iteration-{iteration.iteration:06d}"
    client.log_artifacts(run.id, str(bundle.folder), f"{folder}/{_BUNDLE}")
    client.log_artifacts(run.id, str(checkpoint), f"{folder}/{_CHECKPOINT}")
    policy = run.spec.policy
    try:
        client.create_registered_model(policy)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    artifacts: str = client.get_run(run.id).info.artifact_uri
    tags: dict[str, Any] = {
        "environment": bundle.spec.environment_id,
        "algorithm": bundle.spec.algorithm,
        "run_id": run.id,
        "git_commit": run.git_commit,
        "settings": json_format.MessageToJson(run.spec.settings, indent=None)[:5000],
        "model_sha256": bundle.spec.model_sha256,
        "iteration": iteration.iteration,
        "steps": iteration.steps,
        "return": f"{iteration.evaluated_return:g}",
    }
    if iteration.HasField("training_return"):
        tags["training_return"] = f"{iteration.training_return:g}"
    source = f"{artifacts}/{folder}/{_BUNDLE}"
    version = client.create_model_version(policy, source, run_id=run.id, tags=tags)
    return int(version.version)


def find_version(client: MlflowClient, policy: str, version: int) -> int:
    """Checks that a version can be trained on.

    Args:
        client: MLflow's client.
        policy: The policy.
        version: The version; 0 for the newest.

    Returns:
        The version's number.

    Raises:
        NotFoundError: If it is not registered, or no run of Steersman's made it.
    """
    try:
        if version == 0:
            found = client.search_model_versions(f"name='{policy}'", max_results=1, order_by=["version_number DESC"])
            entry = found[0] if found else None
        else:
            entry = client.get_model_version(policy, str(version))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        entry = None
    wanted = f"version {version}" if version else "a version"
    if entry is None:
        raise NotFoundError(f"expected {wanted} of policy {quoted(policy)} to start from, but none is registered")
    if not _checkpoint_of(entry):
        raise NotFoundError(f"expected {wanted} of policy {quoted(policy)} that keeps its checkpoint, but it has none")
    return int(entry.version)


def download_checkpoint(client: MlflowClient, url: str, policy: str, version: int, folder: Path) -> Path:
    """Downloads the checkpoint of a version and gives its folder.

    Args:
        client: MLflow's client.
        url: The tracking server.
        policy: The policy.
        version: The version.
        folder: Where to.
    """
    entry = client.get_model_version(policy, str(version))
    folder.mkdir(parents=True, exist_ok=True)
    return Path(download_artifacts(_checkpoint_of(entry), dst_path=str(folder), tracking_uri=url))


def _checkpoint_of(entry: Any) -> str:  # noqa: ANN401 - MLflow is not type-checked
    """Gives where the checkpoint of a version lies; nothing if it has none."""
    source = str(entry.source)
    if "iteration" not in entry.tags or not source.endswith(f"/{_BUNDLE}"):
        return ""
    return source.removesuffix(_BUNDLE) + _CHECKPOINT
