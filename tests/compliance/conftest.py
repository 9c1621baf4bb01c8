"""Whom the rules are checked against: an address, or a gateway and replicas that are started for it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import grpc
import pytest

from steersman.inference.v1 import inference_pb2_grpc
from steersman.v1 import policy_pb2, policy_pb2_grpc
from tests.bundles import write_counting_bundle, write_linear_bundle
from tests.gateways import gateway_process, replica_process
from tests.inference_stub import inference_stub

_START_SECONDS = 60


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the options that say whom to check."""
    group = parser.getgroup("compliance")
    group.addoption("--target", help="host:port of a running server; without it, one is started")
    group.addoption("--policy", help="a policy without memory that the target serves")
    group.addoption("--policy-with-memory", help="a policy with memory that the target serves")


@dataclass(frozen=True)
class Target:
    """Whom the rules are checked against.

    Attributes:
        address: Where it is.
        policy: A policy without memory.
        policy_with_memory: One with memory; empty where there is none.
    """

    address: str
    policy: str
    policy_with_memory: str


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    address = request.config.getoption("--target", default=None)
    if address:
        policy = request.config.getoption("--policy")
        with_memory = request.config.getoption("--policy-with-memory")
        if not policy:
            pytest.fail("expected --policy along with --target: the name of a policy without memory", pytrace=False)
        yield Target(address, policy, with_memory or "")
        return
    folder = tmp_path_factory.mktemp("compliance")
    linear, counting = write_linear_bundle(folder / "linear"), write_counting_bundle(folder / "counting")
    with (
        gateway_process(folder, ray_dashboard_url="") as gateway,
        replica_process("linear", linear, gateway),
        replica_process("counting", counting, gateway),
    ):
        _wait_until_served(gateway.address, {"linear", "counting"})
        yield Target(gateway.address, "linear", "counting")


def _wait_until_served(address: str, policies: set[str]) -> None:
    """Waits until a gateway's replicas have attached."""
    deadline = time.monotonic() + _START_SECONDS
    with grpc.insecure_channel(address) as channel:
        stub = policy_pb2_grpc.PolicyServiceStub(channel)
        while policies - {found.name for found in stub.ListPolicies(policy_pb2.ListPoliciesRequest()).policies}:
            assert time.monotonic() < deadline, f"expected replicas of {policies}"
            time.sleep(0.02)


@pytest.fixture
async def channel(target: Target) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(target.address, options=[("grpc.enable_retries", 0)]) as opened:
        yield opened


@pytest.fixture
def policies(channel: grpc.aio.Channel) -> policy_pb2_grpc.PolicyServiceAsyncStub:
    return policy_pb2_grpc.PolicyServiceStub(channel)


@pytest.fixture
def inference(channel: grpc.aio.Channel) -> inference_pb2_grpc.GRPCInferenceServiceAsyncStub:
    return inference_stub(channel)


@pytest.fixture
def policy(target: Target) -> str:
    return target.policy


@pytest.fixture
def policy_with_memory(target: Target) -> str:
    if not target.policy_with_memory:
        pytest.skip("no --policy-with-memory was given")
    return target.policy_with_memory
