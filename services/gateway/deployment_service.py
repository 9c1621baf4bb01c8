"""DeploymentService: the admin API."""

from __future__ import annotations

from typing import Any

import grpc

from services.common.errors import answers_errors
from services.gateway.deployments import Deployments
from steersman.v1 import deployment_pb2, deployment_pb2_grpc

_Context = grpc.aio.ServicerContext[Any, Any]


class DeploymentService(deployment_pb2_grpc.DeploymentServiceServicer):
    """Serves `steersman.v1.DeploymentService`; the proto describes its methods.

    Args:
        deployments: Carries the calls out.
    """

    def __init__(self, deployments: Deployments) -> None:
        self._deployments = deployments

    @answers_errors
    async def Deploy(self, request: deployment_pb2.DeployRequest, context: _Context) -> deployment_pb2.DeployResponse:
        """Serves one version of a policy."""
        return deployment_pb2.DeployResponse(deployment=await self._deployments.deploy(request))

    @answers_errors
    async def Undeploy(
        self, request: deployment_pb2.UndeployRequest, context: _Context
    ) -> deployment_pb2.UndeployResponse:
        """Stops serving a policy."""
        await self._deployments.undeploy(request.policy)
        return deployment_pb2.UndeployResponse()

    @answers_errors
    async def ListDeployments(
        self, request: deployment_pb2.ListDeploymentsRequest, context: _Context
    ) -> deployment_pb2.ListDeploymentsResponse:
        """Lists all deployments."""
        return deployment_pb2.ListDeploymentsResponse(deployments=await self._deployments.list())
