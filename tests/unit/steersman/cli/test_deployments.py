from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import grpc
import pytest

from services.common.server import Service
from steersman.v1 import common_pb2, deployment_pb2, policy_pb2, policy_pb2_grpc
from tests.command_line import CommandLine
from tests.servers import served
from tests.unit.steersman.cli.no_deployments import NoDeployments

DEPLOYING = deployment_pb2.DEPLOYMENT_STATE_DEPLOYING
READY = deployment_pb2.DEPLOYMENT_STATE_READY
FAILED = deployment_pb2.DEPLOYMENT_STATE_FAILED


def deployment(
    state: deployment_pb2.DeploymentState.ValueType, message: str = "", version: int = 3
) -> deployment_pb2.Deployment:
    return deployment_pb2.Deployment(
        policy="cartpole", version=version, state=state, message=message, replicas_wanted=1
    )


class Gateway(NoDeployments):
    """Answers `Deploy` with the first state of a story, and each `ListDeployments` with the next, at last for ever."""

    def __init__(self) -> None:
        self.story: Sequence[deployment_pb2.Deployment] = []
        self.asked: list[deployment_pb2.DeployRequest] = []
        self.undeployed: list[str] = []
        self.listed = 0

    async def Deploy(  # noqa: N802 - gRPC's name
        self, request: deployment_pb2.DeployRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> deployment_pb2.DeployResponse:
        assert request.request_id
        request.ClearField("request_id")
        self.asked.append(request)
        return deployment_pb2.DeployResponse(deployment=self.story[0])

    async def Undeploy(  # noqa: N802 - gRPC's name
        self, request: deployment_pb2.UndeployRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> deployment_pb2.UndeployResponse:
        if request.policy != "cartpole":
            await context.abort(grpc.StatusCode.NOT_FOUND, f"expected a deployed policy, got {request.policy!r}")
        self.undeployed.append(request.policy)
        return deployment_pb2.UndeployResponse()

    async def ListDeployments(  # noqa: N802 - gRPC's name
        self, request: deployment_pb2.ListDeploymentsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> deployment_pb2.ListDeploymentsResponse:
        if not self.story:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "cannot reach Ray")
        self.listed += 1
        state = self.story[min(self.listed, len(self.story) - 1)]
        return deployment_pb2.ListDeploymentsResponse(deployments=[state])


class Policies(policy_pb2_grpc.PolicyServiceServicer):
    """Lists one policy."""

    async def ListPolicies(  # noqa: N802 - gRPC's name
        self, request: policy_pb2.ListPoliciesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> policy_pb2.ListPoliciesResponse:
        box = common_pb2.BoxSpace(shape=[4], low=[-float("inf")], high=[float("inf")])
        spec = common_pb2.PolicySpec(observation_space=common_pb2.Space(box=box))
        version = policy_pb2.PolicyVersion(version=3, spec=spec)
        policy = policy_pb2.Policy(name="cartpole", default_version=3, versions=[version], replicas=1)
        return policy_pb2.ListPoliciesResponse(policies=[policy])

    async def GetPolicy(  # noqa: N802 - gRPC's name
        self, request: policy_pb2.GetPolicyRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> policy_pb2.GetPolicyResponse:
        raise NotImplementedError

    async def Act(  # noqa: N802 - gRPC's name
        self, request: policy_pb2.ActRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> policy_pb2.ActResponse:
        raise NotImplementedError

    async def ActStream(  # noqa: N802 - gRPC's name
        self, request_iterator: AsyncIterator[Any], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[Any]:
        raise NotImplementedError
        yield


@pytest.fixture
def gateway(steersman: CommandLine) -> Iterator[Gateway]:
    servicer = Gateway()
    with served(
        Service(deployment_pb2.DESCRIPTOR.services_by_name["DeploymentService"], servicer),
        Service(policy_pb2.DESCRIPTOR.services_by_name["PolicyService"], Policies()),
    ) as address:
        steersman.configure(gateway_address=address)
        yield servicer


def test_deploy_states_limits_and_resources(steersman: CommandLine, gateway: Gateway) -> None:
    gateway.story = [deployment(READY)]
    options = ["--min-replicas", "0", "--max-replicas", "4", "--replica-cpus", "0.25", "--replica-gpus", "0"]
    assert steersman("deploy", "cartpole:3", *options, "--no-wait").exit_code == 0
    assert gateway.asked == [
        deployment_pb2.DeployRequest(
            policy="cartpole", version=3, min_replicas=0, max_replicas=4, replica_cpus=0.25, replica_gpus=0.0
        )
    ]


@pytest.mark.usefixtures("terminal")
def test_deploy_waits_until_it_is_ready(steersman: CommandLine, gateway: Gateway) -> None:
    gateway.story = [deployment(DEPLOYING, "waits for 1 of 1 replicas"), deployment(DEPLOYING), deployment(READY)]
    result = steersman("deploy", "cartpole:3", "--replicas", "2", "--json")
    assert (result.exit_code, gateway.listed) == (0, 2)
    assert json.loads(result.output)["state"] == "ready"
    assert "waits for 1 of 1 replicas" in result.errors
    assert gateway.asked == [deployment_pb2.DeployRequest(policy="cartpole", version=3, replicas=2)]


def test_the_version_before_being_ready_is_not_enough(steersman: CommandLine, gateway: Gateway) -> None:
    gateway.story = [deployment(DEPLOYING), deployment(READY, version=2), deployment(READY)]
    result = steersman("deploy", "cartpole")
    assert (result.exit_code, gateway.listed) == (0, 2)
    assert "cartpole:3 is ready\n" in result.output


def test_without_waiting_it_says_how_far_it_is(steersman: CommandLine, gateway: Gateway) -> None:
    gateway.story = [deployment(DEPLOYING, "waits for [1] replica")]
    result = steersman("deploy", "cartpole", "--no-wait")
    assert (result.exit_code, gateway.listed) == (0, 0)
    assert result.output == "cartpole:3 is deploying: waits for [1] replica\n"


def test_a_failed_deployment_says_why(steersman: CommandLine, gateway: Gateway) -> None:
    gateway.story = [deployment(DEPLOYING), deployment(FAILED, "expected SHA-256 aa, got bb")]
    result = steersman("deploy", "cartpole", "--json")
    assert result.exit_code == 1
    assert "Error: cartpole:3 cannot be deployed: expected SHA-256 aa, got bb" in result.errors
    assert result.output == ""


def test_a_deployment_that_takes_too_long_says_what_it_waits_for(steersman: CommandLine, gateway: Gateway) -> None:
    gateway.story = [deployment(DEPLOYING, "waits for 1 of 1 replicas")]
    result = steersman("deploy", "cartpole", "--timeout", "0.1")
    assert result.exit_code == 1
    assert "cartpole:3 is not ready after 0.1 s: it waits for 1 of 1 replicas" in result.errors


def test_undeploy_asks_for_it_or_says_why_not(steersman: CommandLine, gateway: Gateway) -> None:
    assert steersman("undeploy", "cartpole").output == "cartpole is being undeployed.\n"
    assert json.loads(steersman("undeploy", "cartpole", "--json").output) == {"policy": "cartpole"}
    assert gateway.undeployed == ["cartpole", "cartpole"]
    refused = steersman("undeploy", "[/nobody]")
    assert refused.exit_code == 1
    assert "Error: expected a deployed policy, got '[/nobody]'\n" in refused.errors


def test_policies_are_listed(steersman: CommandLine, gateway: Gateway) -> None:
    gateway.story = [deployment(READY)]
    assert "1 of 1" in steersman("policies").output
    listed = json.loads(steersman("policies", "--json").output)
    assert listed["deployments"][0]["state"] == "ready"
    assert listed["policies"][0]["versions"][0]["spec"]["observation_space"]["box"]["low"] == ["-Infinity"]


@pytest.mark.usefixtures("gateway")
def test_policies_are_listed_also_without_ray(steersman: CommandLine) -> None:
    result = steersman("policies", "--json")
    assert result.exit_code == 0
    listed = json.loads(result.output)
    assert listed["deployments"] == []
    assert listed["problems"][0].startswith("cannot reach Ray")
    assert "Note: cannot reach Ray" in result.errors
