"""A gateway's admin API that does nothing; tests override what they need."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc

from steersman.v1 import deployment_pb2 as messages
from steersman.v1 import deployment_pb2_grpc

_Context = grpc.aio.ServicerContext[Any, Any]


class NoDeployments(deployment_pb2_grpc.DeploymentServiceServicer):
    """Refuses every call."""

    async def Deploy(  # noqa: N802 - gRPC's name
        self, request: messages.DeployRequest, context: _Context
    ) -> messages.DeployResponse:
        raise NotImplementedError

    async def Undeploy(  # noqa: N802 - gRPC's name
        self, request: messages.UndeployRequest, context: _Context
    ) -> messages.UndeployResponse:
        raise NotImplementedError

    async def ListDeployments(  # noqa: N802 - gRPC's name
        self, request: messages.ListDeploymentsRequest, context: _Context
    ) -> messages.ListDeploymentsResponse:
        raise NotImplementedError

    async def SetRoute(  # noqa: N802 - gRPC's name
        self, request: messages.SetRouteRequest, context: _Context
    ) -> messages.SetRouteResponse:
        raise NotImplementedError

    async def SetAlias(  # noqa: N802 - gRPC's name
        self, request: messages.SetAliasRequest, context: _Context
    ) -> messages.SetAliasResponse:
        raise NotImplementedError

    async def Promote(  # noqa: N802 - gRPC's name
        self, request: messages.PromoteRequest, context: _Context
    ) -> messages.PromoteResponse:
        raise NotImplementedError

    async def Rollback(  # noqa: N802 - gRPC's name
        self, request: messages.RollbackRequest, context: _Context
    ) -> messages.RollbackResponse:
        raise NotImplementedError

    async def ListAudit(  # noqa: N802 - gRPC's name
        self, request: messages.ListAuditRequest, context: _Context
    ) -> messages.ListAuditResponse:
        raise NotImplementedError

    def WatchDeployments(  # noqa: N802 - gRPC's name
        self, request: messages.WatchDeploymentsRequest, context: _Context
    ) -> AsyncIterator[messages.WatchDeploymentsResponse]:
        raise NotImplementedError
