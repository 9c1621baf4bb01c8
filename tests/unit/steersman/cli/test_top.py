from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest

from services.common.server import Service
from steersman.cli.top import describe_replicas, describe_versions
from steersman.v1 import activity_pb2, deployment_pb2
from tests.command_line import CommandLine
from tests.servers import served
from tests.unit.steersman.cli.no_deployments import NoDeployments

ACTIVITY = activity_pb2.Activity(
    requests_per_second=1234.0,
    p50_milliseconds=0.5,
    p99_milliseconds=2.25,
    mean_batch_size=4.5,
    waiting=12,
    gateway_processes=2,
    versions=[activity_pb2.VersionActivity(version=7, share=1.0)],
)
DEPLOYMENT = deployment_pb2.Deployment(
    policy="cartpole", state=deployment_pb2.DEPLOYMENT_STATE_READY, replicas_wanted=2, replicas_ready=2
)
UPDATE = deployment_pb2.WatchDeploymentsResponse(
    policies=[deployment_pb2.WatchedPolicy(deployment=DEPLOYMENT, activity=ACTIVITY)],
    events=[deployment_pb2.DeploymentEvent(policy="cartpole", text="2 replicas wanted instead of 1")],
)


class Gateway(NoDeployments):
    """Tells the same over and over."""

    def __init__(self) -> None:
        self.asked: list[deployment_pb2.WatchDeploymentsRequest] = []

    async def WatchDeployments(  # noqa: N802 - gRPC's name
        self, request: deployment_pb2.WatchDeploymentsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[deployment_pb2.WatchDeploymentsResponse]:
        self.asked.append(request)
        yield deployment_pb2.WatchDeploymentsResponse()
        while True:
            yield UPDATE


@pytest.fixture
def gateway(steersman: CommandLine) -> Iterator[Gateway]:
    servicer = Gateway()
    service = Service(deployment_pb2.DESCRIPTOR.services_by_name["DeploymentService"], servicer)
    with served(service) as address:
        steersman.configure(gateway_address=address)
        yield servicer


def test_once_prints_the_first_update_that_has_rates(steersman: CommandLine, gateway: Gateway) -> None:
    result = steersman("top", "cartpole", "--once", "--interval", "0.2")
    for part in ("cartpole", "ready", "1,234", "0.50", "2.25", "12", "4.5", "2 of 2", "2 gateway processes"):
        assert part in result.output
    assert "2 replicas wanted instead of 1" in result.output
    assert gateway.asked == [deployment_pb2.WatchDeploymentsRequest(policy="cartpole", interval_milliseconds=200)]


@pytest.mark.usefixtures("gateway")
def test_json_is_one_line_for_each_update(steersman: CommandLine) -> None:
    (line,) = steersman("top", "--once", "--json").output.splitlines()
    (policy,) = json.loads(line)["policies"]
    assert policy["deployment"]["state"] == "ready"
    assert policy["activity"]["requests_per_second"] == 1234.0


def test_without_a_gateway_it_says_so(steersman: CommandLine) -> None:
    steersman.configure(gateway_address="127.0.0.1:1")
    result = steersman("top", "--once")
    assert result.exit_code == 1
    assert "cannot reach the gateway" in result.errors


def test_replicas_are_told_with_what_becomes_of_them() -> None:
    activity = activity_pb2.Activity(replicas_starting=1, replicas_draining=2)
    assert describe_replicas(DEPLOYMENT, activity) == "2 of 2, 1 starting, 2 draining"
    alone = deployment_pb2.Deployment(policy="cartpole", replicas_ready=1)
    assert describe_replicas(alone, activity_pb2.Activity()) == "1"


def test_versions_are_told_with_their_part() -> None:
    activity = activity_pb2.Activity(
        versions=[
            activity_pb2.VersionActivity(version=7, share=0.9),
            activity_pb2.VersionActivity(version=8, share=0.1),
            activity_pb2.VersionActivity(version=9, is_shadow=True),
        ],
        shadow_disagreement=0.021,
    )
    assert describe_versions(activity) == "7 90%, 8 10%, shadow 9 (2.1% disagree)"
