"""Runs the gateway: `python -m services.gateway`."""

from __future__ import annotations

import asyncio
import functools

import uvloop

from services.common.logs import configure_logging
from services.common.server import Service, create_server, serve_until_stopped
from services.gateway.catalogue import Catalogue
from services.gateway.deployment_service import DeploymentService
from services.gateway.deployments import Deployments
from services.gateway.policy_service import PolicyService
from services.gateway.ray_serve import RayServe
from services.gateway.registry import Registry
from services.gateway.replica_service import ReplicaService
from steersman.settings import Settings, port_of, settings
from steersman.v1 import deployment_pb2_grpc, policy_pb2_grpc, replica_pb2_grpc


async def run(settings: Settings) -> None:
    """Serves until the process is told to stop.

    Args:
        settings: Addresses and limits.

    Raises:
        OSError: If an address is in use.
    """
    catalogue = Catalogue(asyncio.get_running_loop().call_soon)
    http_host, _, _ = settings.serve_http_address.rpartition(":")
    ray_serve = RayServe(
        settings.ray_dashboard_url, settings.ray_token_file, http_host, port_of(settings.serve_http_address)
    )
    registry = Registry(settings.mlflow_url)
    deployments = Deployments(settings, [settings.gateway_replica_address], ray_serve, registry, catalogue)
    add_policies = functools.partial(policy_pb2_grpc.add_PolicyServiceServicer_to_server, PolicyService(catalogue))
    add_deployments = functools.partial(
        deployment_pb2_grpc.add_DeploymentServiceServicer_to_server, DeploymentService(deployments)
    )
    add_replicas = functools.partial(replica_pb2_grpc.add_ReplicaServiceServicer_to_server, ReplicaService(catalogue))
    public = create_server(
        settings,
        settings.gateway_address,
        [
            Service("steersman.v1.PolicyService", add_policies),
            Service("steersman.v1.DeploymentService", add_deployments),
        ],
    )
    internal = create_server(
        settings,
        settings.gateway_replica_address,
        [Service("steersman.v1.ReplicaService", add_replicas)],
        # Once the public server has stopped, the streams of replicas have nothing more to carry, and never end.
        grace_seconds=0,
    )
    following = asyncio.create_task(deployments.follow())
    # The public server stops first: what it has taken is still computed by the replicas behind the internal one.
    await serve_until_stopped(public, internal)
    following.cancel()
    await ray_serve.close()
    await registry.close()


def main() -> None:
    """Runs the gateway with this process's settings."""
    configure_logging("gateway", settings().log_level)
    uvloop.run(run(settings()))


if __name__ == "__main__":
    main()
