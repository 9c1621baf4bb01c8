"""DeploymentService: the admin API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc

from services.gateway.control.actor import actor_of
from services.gateway.control.deployments import Deployments
from services.gateway.control.descriptions import write_audit
from services.gateway.watching.watching import Watching
from steersman.v1 import deployment_pb2, deployment_pb2_grpc

_Context = grpc.aio.ServicerContext[Any, Any]


class DeploymentService(deployment_pb2_grpc.DeploymentServiceServicer):
    """Serves `steersman.v1.DeploymentService`; the proto describes its methods.

    Args:
        deployments: Carries the calls out.
        watching: Follows what policies do.
    """

    def __init__(self, deployments: Deployments, watching: Watching) -> None:
        self._deployments = deployments
        self._watching = watching

    async def Deploy(self, request: deployment_pb2.DeployRequest, context: _Context) -> deployment_pb2.DeployResponse:
        """Serves one version of a policy."""
        deployment = await self._deployments.deploy(request, actor_of(context))
        return deployment_pb2.DeployResponse(deployment=deployment)

    async def Undeploy(
        self, request: deployment_pb2.UndeployRequest, context: _Context
    ) -> deployment_pb2.UndeployResponse:
        """Stops serving a policy."""
        await self._deployments.undeploy(request, actor_of(context))
        return deployment_pb2.UndeployResponse()

    async def ListDeployments(
        self, request: deployment_pb2.ListDeploymentsRequest, context: _Context
    ) -> deployment_pb2.ListDeploymentsResponse:
        """Lists all deployments."""
        return deployment_pb2.ListDeploymentsResponse(
            deployments=await self._deployments.deployments(), problems=self._deployments.problems()
        )

    async def SetRoute(
        self, request: deployment_pb2.SetRouteRequest, context: _Context
    ) -> deployment_pb2.SetRouteResponse:
        """Splits a policy's traffic."""
        deployment = await self._deployments.set_route(request, actor_of(context))
        return deployment_pb2.SetRouteResponse(deployment=deployment)

    async def SetAlias(
        self, request: deployment_pb2.SetAliasRequest, context: _Context
    ) -> deployment_pb2.SetAliasResponse:
        """Points an alias at a version."""
        deployment = await self._deployments.set_alias(request, actor_of(context))
        return deployment_pb2.SetAliasResponse(deployment=deployment)

    async def Promote(
        self, request: deployment_pb2.PromoteRequest, context: _Context
    ) -> deployment_pb2.PromoteResponse:
        """Moves an alias and all traffic to a version."""
        deployment = await self._deployments.promote(request, actor_of(context))
        return deployment_pb2.PromoteResponse(deployment=deployment)

    async def Rollback(
        self, request: deployment_pb2.RollbackRequest, context: _Context
    ) -> deployment_pb2.RollbackResponse:
        """Goes back to the route before."""
        deployment = await self._deployments.rollback(request, actor_of(context))
        return deployment_pb2.RollbackResponse(deployment=deployment)

    async def WatchDeployments(
        self, request: deployment_pb2.WatchDeploymentsRequest, context: _Context
    ) -> AsyncIterator[deployment_pb2.WatchDeploymentsResponse]:
        """Follows every policy."""
        async for response in self._watching.watch(request):
            yield response

    async def ListAudit(
        self, request: deployment_pb2.ListAuditRequest, context: _Context
    ) -> deployment_pb2.ListAuditResponse:
        """Lists what was changed."""
        records = await self._deployments.audit(request)
        return deployment_pb2.ListAuditResponse(records=[write_audit(record) for record in records])
