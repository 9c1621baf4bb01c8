"""Evaluations through a real gateway; without Ray, which makes no difference to the evaluator."""

from __future__ import annotations

import asyncio
import functools
import re
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import gymnasium
import numpy as np
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
from tests.integration.services.gateway.counting import write_counting_bundle
from tests.ports import free_address

pytestmark = pytest.mark.integration


class Summing(gymnasium.Env[Any, Any]):
    """Shows 1, 2, 3, ... and rewards an action with 1 if it is the sum of all that was shown in the episode."""

    open = 0
    all_closed = threading.Event()
    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float32)

    def __init__(self) -> None:
        Summing.open += 1

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        assert seed is not None
        self._length, self._shown, self._sum = 2 + seed % 4, 1, 1
        return np.array([1], np.float32), {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward = float(action[0] == self._sum)
        self._shown += 1
        self._sum += self._shown
        return np.array([self._shown], np.float32), reward, self._shown > self._length, False, {}

    def close(self) -> None:
        Summing.open -= 1
        if not Summing.open:
            Summing.all_closed.set()


class Broken(gymnasium.Env[Any, Any]):
    """Has CartPole's spaces, and raises at the first step."""

    observation_space = gymnasium.make("CartPole-v1").observation_space
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        return np.zeros(4, np.float32), {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        raise RuntimeError("out of order")


@pytest.fixture(scope="module", autouse=True)
def _own_environments() -> Iterator[None]:
    gymnasium.register("Summing-v0", lambda **_: Summing())
    gymnasium.register("Broken-v0", lambda **_: Broken())
    yield
    del gymnasium.registry["Summing-v0"], gymnasium.registry["Broken-v0"]


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
        ({"environment_kwargs": {"no_such": 1}}, grpc.StatusCode.INVALID_ARGUMENT, "no_such"),
        ({"environment_kwargs": {"x": float("nan")}}, grpc.StatusCode.INVALID_ARGUMENT, "JSON"),
        ({"policy": "cartpole:9"}, grpc.StatusCode.NOT_FOUND, "9"),
        ({"seed": 2**64 - 2}, grpc.StatusCode.INVALID_ARGUMENT, "expected a seed of at most 18446744073709551596"),
        (
            {"environment_id": "Broken-v0"},
            grpc.StatusCode.FAILED_PRECONDITION,
            "the environment raised RuntimeError: out of order",
        ),
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


async def test_without_a_gateway_it_is_unavailable_and_says_which() -> None:
    nobody = free_address()
    async with evaluator(nobody) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await report_of(stub, evaluator_pb2.EvaluateRequest(policy="cartpole"))
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
    assert (refused.value.details() or "").startswith(f"no actions from the gateway at {nobody}: ")


async def test_whole_numbers_reach_the_environment_as_integers(gateway: GatewayProcess, bundle: Bundle) -> None:
    request = evaluator_pb2.EvaluateRequest(policy="cartpole", episodes=3)
    request.environment_kwargs.update({"max_episode_steps": 4})
    async with attached_replica(gateway, "cartpole", {1: bundle}), evaluator(gateway.address) as stub:
        report = await report_of(stub, request)
    assert [(episode.length, episode.truncated, episode.terminated) for episode in report.episodes] == [
        (4, True, False)
    ] * 3


async def test_one_version_answers_all_of_an_evaluation(
    gateway: GatewayProcess, bundle: Bundle, tmp_path: Path
) -> None:
    """A version that is deployed in the middle takes the policy's traffic, but not the evaluation's."""
    newer = write_linear_bundle(tmp_path, seed=5, bounds=bundle.spec.observation_space)
    async with attached_replica(gateway, "cartpole", {1: bundle}) as replica, evaluator(gateway.address) as stub:
        request = evaluator_pb2.EvaluateRequest(policy="cartpole", episodes=40, num_environments=1)
        events = aiter(stub.Evaluate(request))
        assert (await anext(events)).progress.episodes_done < 40
        # What is held already is not loaded again.
        await replica.load({1: lambda: PolicyRuntime(bundle), 2: lambda: PolicyRuntime(newer)})
        report = [event async for event in events][-1].report
        after = await report_of(stub, request)
    assert (report.version, report.model_sha256) == (1, bundle.spec.model_sha256)
    assert (after.version, after.model_sha256) == (2, newer.spec.model_sha256)
    assert [episode.episode_return for episode in report.episodes] == [played_here(bundle, seed) for seed in range(40)]


async def test_a_version_that_goes_in_the_middle_ends_the_evaluation(
    gateway: GatewayProcess, bundle: Bundle, tmp_path: Path
) -> None:
    newer = write_linear_bundle(tmp_path, seed=5, bounds=bundle.spec.observation_space)
    async with attached_replica(gateway, "cartpole", {1: bundle}) as replica, evaluator(gateway.address) as stub:
        events = aiter(stub.Evaluate(evaluator_pb2.EvaluateRequest(policy="cartpole", episodes=100_000)))
        await anext(events)
        await replica.load({2: lambda: PolicyRuntime(newer)})
        # No report mixes versions.
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            [event async for event in events]
    assert ended.value.code() == grpc.StatusCode.NOT_FOUND
    # The gateway says it in other words to a request that waits already than to one that comes after.
    assert re.search(r"policy 'cartpole', .*(unloaded it|got 1)$", ended.value.details() or "")


async def test_a_policy_with_memory_keeps_it_through_an_episode(gateway: GatewayProcess, tmp_path: Path) -> None:
    """The policy acts with the sum of what it saw; the environment rewards only that, and seeds make lengths differ."""
    async with (
        attached_replica(gateway, "counting", {1: write_counting_bundle(tmp_path)}),
        evaluator(gateway.address) as stub,
    ):
        request = evaluator_pb2.EvaluateRequest(
            policy="counting", environment_id="Summing-v0", episodes=7, num_environments=3
        )
        report = await report_of(stub, request)
    assert [episode.length for episode in report.episodes] == [2, 3, 4, 5, 2, 3, 4]
    assert [episode.episode_return for episode in report.episodes] == [2, 3, 4, 5, 2, 3, 4]


async def test_cancelling_the_call_stops_the_evaluation_and_closes_its_environments(
    gateway: GatewayProcess, tmp_path: Path
) -> None:
    async with (
        attached_replica(gateway, "counting", {1: write_counting_bundle(tmp_path)}),
        evaluator(gateway.address) as stub,
    ):
        Summing.open = 0
        Summing.all_closed.clear()
        request = evaluator_pb2.EvaluateRequest(
            policy="counting", environment_id="Summing-v0", episodes=100_000, num_environments=5
        )
        call = stub.Evaluate(request)
        first = await call.read()
        assert isinstance(first, evaluator_pb2.EvaluateResponse)
        assert Summing.open == 5
        call.cancel()
        async with asyncio.timeout(1):
            assert await call.code() == grpc.StatusCode.CANCELLED
            assert await asyncio.to_thread(Summing.all_closed.wait, 1)


async def test_progress_comes_about_ten_times_a_second(gateway: GatewayProcess, bundle: Bundle) -> None:
    async with attached_replica(gateway, "cartpole", {1: bundle}), evaluator(gateway.address) as stub:
        request = evaluator_pb2.EvaluateRequest(policy="cartpole", episodes=60, num_environments=2)
        events = [event async for event in stub.Evaluate(request)]
    *progress, last = events
    assert 2 <= len(progress) <= 10 * last.report.seconds + 1
    steps = [event.progress.steps for event in progress]
    assert steps == sorted(steps)
    assert steps[-1] == last.report.steps
