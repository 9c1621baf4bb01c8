"""The generator against the floor, which is a real server in a process of its own."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NoReturn

import grpc
import pytest

from bench.generator import measure
from bench.loads import LOADS, SERVE_LOADS, Load
from bench.models import write_models
from bench.systems.floor import Floor
from bench.systems.floor_native import FloorNative
from steersman.v1 import common_pb2, policy_pb2, policy_pb2_grpc


@pytest.fixture(scope="module", params=[Floor, FloorNative], ids=["floor", "floor-native"])
def floor(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Floor]:
    folder: Path = tmp_path_factory.mktemp("models")
    system: Floor = request.param()
    try:
        system.start(write_models(folder))
        yield system
    finally:
        system.stop()


@pytest.mark.parametrize("load", SERVE_LOADS, ids=lambda load: load.name)
async def test_every_load_is_answered(floor: Floor, load: Load) -> None:
    target = floor.target(load)
    assert target is not None
    measured = await measure(target, load, seconds=1.0, warm_up=0.05, rate=0)
    assert measured.errors == 0
    assert measured.requests > 0
    assert measured.answered >= measured.requests
    assert measured.latencies_ms is not None
    assert 0 < measured.latencies_ms[0] <= measured.latencies_ms[1]


async def test_a_rate_is_not_exceeded(floor: Floor) -> None:
    load = LOADS["half-peak"]
    measured = await measure(floor.target(load) or "", load, seconds=1.0, warm_up=0.1, rate=100)
    # At most what was asked for; how much less depends on who else uses this machine.
    assert 0 < measured.requests <= 110


class Refuser(policy_pb2_grpc.PolicyServiceServicer):
    """Answers every message of a stream with an error; ends the stream itself after `ends_after` of them."""

    def __init__(self, ends_after: int | None) -> None:
        self._ends_after = ends_after

    async def Act(self, request: object, context: grpc.aio.ServicerContext[Any, Any]) -> NoReturn:  # noqa: N802
        await context.abort(grpc.StatusCode.NOT_FOUND, "no")

    async def GetPolicy(self, request: object, context: object) -> NoReturn:  # noqa: N802
        raise NotImplementedError

    async def ListPolicies(self, request: object, context: object) -> NoReturn:  # noqa: N802
        raise NotImplementedError

    async def ActStream(  # noqa: N802
        self, request_iterator: AsyncIterator[policy_pb2.ActStreamRequest], context: object
    ) -> AsyncIterator[policy_pb2.ActStreamResponse]:
        answers = 0
        async for message in request_iterator:
            if answers == self._ends_after:
                return
            answers += 1
            yield policy_pb2.ActStreamResponse(id=message.id, error=common_pb2.Status(code=5, message="no"))


@contextlib.asynccontextmanager
async def serving(servicer: policy_pb2_grpc.PolicyServiceServicer) -> AsyncIterator[str]:
    server = grpc.aio.server()
    policy_pb2_grpc.add_PolicyServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


async def test_answers_that_are_errors_do_not_count_as_answers() -> None:
    async with serving(Refuser(None)) as target:
        measured = await measure(target, LOADS["stream-32"], seconds=0.2, warm_up=0.05, rate=0)
    assert measured.requests == 0
    assert measured.answered == 0
    assert measured.errors > 0
    assert measured.latencies_ms is None


async def test_a_stream_that_ends_too_early_is_an_error_and_not_a_hang() -> None:
    async with asyncio.timeout(10), serving(Refuser(ends_after=5)) as target:
        measured = await measure(target, LOADS["stream-32"], seconds=0.2, warm_up=0.05, rate=0)
    assert measured.requests == 0
    assert measured.errors > 5


async def test_calls_that_fail_are_counted_as_failed() -> None:
    async with serving(Refuser(None)) as target:
        measured = await measure(target, LOADS["unary-1"], seconds=0.2, warm_up=0.05, rate=0)
    assert measured.answered == 0
    assert measured.errors > 0
