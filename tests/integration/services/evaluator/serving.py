"""An evaluator for tests, and what it should find."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import gymnasium

from services.common.bundle import Bundle
from services.common.server import Service, create_server
from services.evaluator.api.requests import Defaults
from services.evaluator.api.service import EvaluatorService
from services.evaluator.judge.archive import Archive
from services.policy.runtime import PolicyRuntime
from steersman.settings import Settings
from steersman.v1 import evaluator_pb2, evaluator_pb2_grpc

_ENVIRONMENTS = "tests.integration.services.evaluator.environments"


@asynccontextmanager
async def evaluator(
    gateway_address: str, archive: Archive | None = None
) -> AsyncIterator[evaluator_pb2_grpc.EvaluatorServiceAsyncStub]:
    with tempfile.TemporaryDirectory() as folder:
        async with _served(
            Defaults(gateway_address, modules=(_ENVIRONMENTS,), code_folder=Path(folder)), archive
        ) as stub:
            yield stub


@asynccontextmanager
async def _served(
    defaults: Defaults, archive: Archive | None
) -> AsyncIterator[evaluator_pb2_grpc.EvaluatorServiceAsyncStub]:
    servicer = EvaluatorService(defaults, archive)
    services = [Service(evaluator_pb2.DESCRIPTOR.services_by_name["EvaluatorService"], servicer)]
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
