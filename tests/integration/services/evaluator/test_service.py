"""Evaluations through a real gateway; without Ray, which makes no difference to the evaluator."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import grpc
import gymnasium
import pytest

from services.common.bundle import Bundle
from services.common.server import Service, create_server
from services.evaluator.service import EvaluatorService
from services.policy.runtime import PolicyRuntime
from steersman import spaces
from steersman.settings import Settings
from steersman.v1 import evaluator_pb2, evaluator_pb2_grpc
from tests.bundles import write_linear_bundle
from tests.gateways import GatewayProcess, attached_replica, gateway_process
from tests.ports import free_address

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with gateway_process(tmp_path_factory.mktemp("gateway")) as process:
        yield process


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    bounds = spaces.from_gymnasium(gymnasium.make("CartPole-v1").observation_space)
    return write_linear_bundle(tmp_path_factory.mktemp("bundle"), bounds=bounds)


@asynccontextmanager
async def evaluator(gateway_address: str) -> AsyncIterator[evaluator_pb2_grpc.EvaluatorServiceAsyncStub]:
    servicer = EvaluatorService(gateway_address)
    register = functools.partial(evaluator_pb2_grpc.add_EvaluatorServiceServicer_to_server, servicer)
    services = [Service("steersman.v1.EvaluatorService", register)]
    server = create_server(Settings(), "127.0.0.1:0", services, grace_seconds=0)
    await server.start()
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield evaluator_pb2_grpc.EvaluatorServiceStub(channel)
    await server.stop()


async def report_of(
    stub: evaluator_pb2_grpc.EvaluatorServiceAsyncStub, request: evaluator_pb2.EvaluateRequest
) -> evaluator_pb2.EvaluationReport:
    events = [event async for event in stub.Evaluate(request)]
    assert all(event.HasField("progress") for event in events[:-1])
    assert events[-2].progress.episodes_done == events[-2].progress.episodes_total
    return events[-1].report


def played_here(bundle: Bundle, seed: int) -> float:
    """Plays one episode with the policy in this process."""
    runtime = PolicyRuntime(bundle)
    environment = gymnasium.make("CartPole-v1")
    observation, _ = environment.reset(seed=seed)
    total, ended = 0.0, False
    while not ended:
        action = runtime.compute({"observation": observation[None]})["action"][0]
        observation, reward, terminated, truncated, _ = environment.step(action)
        total += float(reward)
        ended = terminated or truncated
    return total


async def test_a_report_says_what_was_served(gateway: GatewayProcess, bundle: Bundle) -> None:
    async with attached_replica(gateway, "cartpole", {3: bundle}), evaluator(gateway.address) as stub:
        request = evaluator_pb2.EvaluateRequest(policy="cartpole", episodes=6, num_environments=4, seed=10)
        report = await report_of(stub, request)
        again = await report_of(stub, request)
    assert (report.policy, report.version, report.environment_id) == ("cartpole", 3, "CartPole-v1")
    assert report.model_sha256 == bundle.spec.model_sha256
    assert [episode.seed for episode in report.episodes] == list(range(10, 16))
    returns = [episode.episode_return for episode in report.episodes]
    assert returns == [played_here(bundle, seed) for seed in range(10, 16)]
    assert report.mean == pytest.approx(sum(returns) / 6)
    assert report.mean_interval.low <= report.mean <= report.mean_interval.high
    assert report.minimum == min(returns)
    assert report.steps == sum(episode.length for episode in report.episodes)
    assert 0 < report.action_latency_milliseconds.p50 <= report.action_latency_milliseconds.p99
    assert list(again.episodes) == list(report.episodes), "the same request twice gives the same report"


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"policy": "nobody"}, grpc.StatusCode.NOT_FOUND, "'nobody'"),
        ({"environment_id": "CartPol-v1"}, grpc.StatusCode.INVALID_ARGUMENT, "did you mean CartPole-v1"),
        (
            {"environment_id": "Pendulum-v1"},
            grpc.StatusCode.INVALID_ARGUMENT,
            "expected an environment with observation space Box([-4.8",
        ),
        ({"environment_kwargs": {"no_such": 1}}, grpc.StatusCode.FAILED_PRECONDITION, "no_such"),
        ({"episodes": 10_000_000}, grpc.StatusCode.INVALID_ARGUMENT, "got 10000000"),
        ({"num_environments": 100_000}, grpc.StatusCode.INVALID_ARGUMENT, "got 100000"),
    ],
)
async def test_bad_evaluations_are_refused(
    gateway: GatewayProcess, bundle: Bundle, fields: dict[str, object], code: grpc.StatusCode, words: str
) -> None:
    request = evaluator_pb2.EvaluateRequest(**({"policy": "cartpole"} | fields))  # type: ignore[arg-type]
    async with attached_replica(gateway, "cartpole", {1: bundle}), evaluator(gateway.address) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await report_of(stub, request)
    assert refused.value.code() == code
    assert words in (refused.value.details() or "")


async def test_without_a_gateway_it_is_unavailable() -> None:
    async with evaluator(free_address()) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await report_of(stub, evaluator_pb2.EvaluateRequest(policy="cartpole"))
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_cancelling_the_call_stops_the_evaluation(gateway: GatewayProcess, bundle: Bundle) -> None:
    async with attached_replica(gateway, "cartpole", {1: bundle}), evaluator(gateway.address) as stub:
        call = stub.Evaluate(evaluator_pb2.EvaluateRequest(policy="cartpole", episodes=100_000))
        first = await call.read()
        assert isinstance(first, evaluator_pb2.EvaluateResponse)
        call.cancel()
        async with asyncio.timeout(1):
            assert await call.code() == grpc.StatusCode.CANCELLED
