"""Versions: a bundle in MLflow's model registry, with the checkpoint to go on from, and under an alias in serving."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import grpc

from services.common.bundle import read_bundle
from services.trainer.records import own_checkpoints, registry
from services.trainer.records.tracking import Tracking
from steersman.client import open_channel
from steersman.settings import settings
from steersman.v1 import deployment_pb2, deployment_pb2_grpc, trainer_pb2

_CALL_SECONDS = 30.0
_ACTOR = (("x-steersman-actor", "trainer"),)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Export:
    """What an evaluated iteration left behind.

    Attributes:
        iteration: The iteration, with its evaluated return.
        bundle: The bundle's folder.
        checkpoint: The folder of the checkpoint that it was exported from.
    """

    iteration: trainer_pb2.Iteration
    bundle: Path
    checkpoint: Path


def publish(run: trainer_pb2.Run, exported: Export, tracking: Tracking) -> int:
    """Registers a version, and points the alias at it that the run was asked to.

    What keeps it from being served is the run's warning, not its end: the version is there and can be deployed by hand.

    Args:
        run: The run.
        exported: What to publish.
        tracking: MLflow.

    Returns:
        The version.
    """
    own_checkpoints.note(exported.checkpoint, own_checkpoints.ledger(settings().var_dir))
    version = registry.register(
        tracking.client, run, read_bundle(exported.bundle), exported.checkpoint, exported.iteration
    )
    tracking.publish(run.id, version, exported.iteration)
    alias = run.spec.publishing.deploy_as
    _log.info("registered version %d of %s, return %.1f", version, run.spec.policy, exported.iteration.evaluated_return)
    if alias:
        try:
            _deploy(run.spec.policy, version, alias)
        except grpc.RpcError as error:
            reason = error.details() if isinstance(error, grpc.Call) else str(error)
            _log.warning("version %d could not be deployed: %s", version, reason)
            tracking.warn(run.id, f"version {version} is registered but not deployed as {alias}: {reason}")
    return version


def _deploy(policy: str, version: int, alias: str) -> None:
    """Makes the gateway's replicas hold a version, under an alias.

    Raises:
        grpc.RpcError: If the gateway cannot be reached or refuses.
    """
    with open_channel(settings().connection(settings().gateway_address)) as channel:
        gateway = deployment_pb2_grpc.DeploymentServiceStub(channel)
        point = deployment_pb2.SetAliasRequest(policy=policy, alias=alias, version=version)
        try:
            gateway.SetAlias(point, timeout=_CALL_SECONDS, metadata=_ACTOR)
        except grpc.RpcError as error:
            if not (isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.NOT_FOUND):
                raise
            # Not deployed yet: its first version is this one.
            deploy = deployment_pb2.DeployRequest(policy=policy, version=version)
            gateway.Deploy(deploy, timeout=_CALL_SECONDS, metadata=_ACTOR)
            gateway.SetAlias(point, timeout=_CALL_SECONDS, metadata=_ACTOR)
