"""Shadows of a real gateway's traffic."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from services.common.bundle import Bundle
from services.policy.runtime import PolicyRuntime
from steersman.aio import PolicyClient
from steersman.v1 import deployment_pb2, deployment_pb2_grpc, evaluator_pb2
from tests.bundles import write_linear_bundle
from tests.gateways import GatewayProcess, attached_replica
from tests.integration.services.evaluator.serving import evaluator

pytestmark = pytest.mark.integration

POLICY = "shadowed"


@pytest.fixture
def other(tmp_path: Path) -> Bundle:
    return write_linear_bundle(tmp_path / "other", seed=5)


async def deploy(gateway: GatewayProcess, bundles: dict[int, Bundle], shadow: int) -> None:
    """Makes version 1 serve. There is no Ray here that could load anything; the test does."""
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        stub = deployment_pb2_grpc.DeploymentServiceStub(channel)
        for version in sorted(bundles, reverse=True):
            await stub.Deploy(
                deployment_pb2.DeployRequest(policy=POLICY, version=version, bundle_uri=str(bundles[version].folder))
            )
        route = deployment_pb2.Route(weights=[deployment_pb2.RouteWeight(version=1, weight=1)])
        if shadow:
            route.shadow.version, route.shadow.share = shadow, 1.0
        await stub.SetRoute(deployment_pb2.SetRouteRequest(policy=POLICY, route=route))


@contextlib.asynccontextmanager
async def traffic(gateway: GatewayProcess, observations: list[np.ndarray]) -> AsyncIterator[None]:
    """Asks for actions, one after the other, until the block ends."""

    async def ask() -> None:
        async with PolicyClient(POLICY, address=gateway.address) as client:
            while True:
                for observation in observations:
                    await client.act(observation)
                    await asyncio.sleep(0.002)

    task = asyncio.create_task(ask())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_the_agreement_of_a_shadow_is_told(gateway: GatewayProcess, bundle: Bundle, other: Bundle) -> None:
    """In every fourth observation they disagree."""
    drawn = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    ours, theirs = (PolicyRuntime(each).compute({"observation": drawn})["action"] for each in (bundle, other))
    same, different = drawn[ours == theirs], drawn[ours != theirs]
    bundles = {1: bundle, 2: other}
    await deploy(gateway, bundles, shadow=2)
    async with (
        attached_replica(gateway, POLICY, bundles),
        evaluator(gateway.address) as stub,
        traffic(gateway, [*same[:3], different[0]]),
    ):
        request = evaluator_pb2.EvaluateShadowRequest(policy=POLICY, compared=300, seconds=60)
        reports = [event.report async for event in stub.EvaluateShadow(request)]
    last = reports[-1]
    assert [report.compared for report in reports] == sorted(report.compared for report in reports)
    assert (list(last.serving), last.shadow) == ([1], 2)
    assert last.compared >= 300
    # Copies are dropped while a replica has better things to do, whatever they are.
    assert last.agreement == pytest.approx(0.75, abs=0.1)
    assert last.agreement_interval.low < last.agreement < last.agreement_interval.high
    assert not last.HasField("mean_distance"), "actions are discrete"


@pytest.mark.parametrize(
    ("policy", "seconds", "code", "words"),
    [
        ("nobody", 1.0, grpc.StatusCode.NOT_FOUND, "got 'nobody'"),
        (POLICY, 1.0, grpc.StatusCode.FAILED_PRECONDITION, "whose route has a shadow, got 'shadowed'"),
        (POLICY, -1.0, grpc.StatusCode.INVALID_ARGUMENT, "got -1"),
    ],
)
async def test_what_is_no_shadow_is_refused(
    gateway: GatewayProcess,
    bundle: Bundle,
    policy: str,
    seconds: float,
    code: grpc.StatusCode,
    words: str,
) -> None:
    await deploy(gateway, {1: bundle}, shadow=0)
    async with evaluator(gateway.address) as stub:
        request = evaluator_pb2.EvaluateShadowRequest(policy=policy, seconds=seconds)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            [event async for event in stub.EvaluateShadow(request)]
    assert refused.value.code() == code
    assert words in (refused.value.details() or "")
