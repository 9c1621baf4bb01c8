"""Loading and unloading models, on a real Ray Serve."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeAlias

import grpc
import numpy as np
import pytest

from services.common.bundle import Bundle
from services.policy.runtime import PolicyRuntime
from steersman.inference.v1 import inference_pb2, inference_pb2_grpc
from tests.conftest import Stack
from tests.inference_stub import infer_request, inference_stub, outputs_of

pytestmark = pytest.mark.integration

Stub: TypeAlias = "inference_pb2_grpc.GRPCInferenceServiceAsyncStub"

POLICY = "loaded"
SECONDS = 120
OBSERVATION = np.array([0.1, -0.2, 0.3, -0.4], np.float32)


@pytest.fixture
async def stub(stack: Stack) -> AsyncIterator[Stub]:
    async with grpc.aio.insecure_channel(stack.settings.gateway_address) as channel:
        yield inference_stub(channel)


async def load(stub: Stub, version: str | int, folder: Path) -> None:
    request = inference_pb2.RepositoryModelLoadRequest(model_name=POLICY)
    if isinstance(version, int):
        request.parameters["version"].int64_param = version
    else:
        request.parameters["version"].string_param = version
    request.parameters["bundle_uri"].string_param = str(folder)
    await stub.RepositoryModelLoad(request, timeout=SECONDS)


async def code_of_load(stub: Stub, version: str | int, folder: Path) -> grpc.StatusCode:
    """Gives the status that loading ends with."""
    try:
        await load(stub, version, folder)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def listed(stub: Stub) -> list[tuple[str, str]]:
    index = await stub.RepositoryIndex(inference_pb2.RepositoryIndexRequest(), timeout=SECONDS)
    return [(entry.version, entry.state) for entry in index.models if entry.name == POLICY]


async def until_gone(stub: Stub) -> None:
    """Waits until nothing is known of the policy any more."""
    async with asyncio.timeout(SECONDS):
        while True:
            if not await listed(stub):
                return
            await asyncio.sleep(0.1)


@pytest.mark.long
async def test_a_model_is_loaded_replaced_and_unloaded(
    stub: Stub, bundle: Bundle, other_bundle: Bundle, tmp_path: Path
) -> None:
    for version, loaded in ((1, bundle), ("2", other_bundle)):
        await load(stub, version, loaded.folder)
        # Loaded means that it answers, without any more waiting.
        request = infer_request(POLICY, {"observation": OBSERVATION}, str(version))
        answer = await stub.ModelInfer(request, timeout=SECONDS)
        expected = PolicyRuntime(loaded).compute({"observation": OBSERVATION[np.newaxis]})["action"]
        assert outputs_of(answer)["action"] == expected[0]
    assert ("2", "READY") in await listed(stub)

    assert await code_of_load(stub, 3, tmp_path / "nowhere") == grpc.StatusCode.FAILED_PRECONDITION
    assert await code_of_load(stub, "newest", bundle.folder) == grpc.StatusCode.INVALID_ARGUMENT

    unload = inference_pb2.RepositoryModelUnloadRequest(model_name=POLICY)
    await stub.RepositoryModelUnload(unload, timeout=SECONDS)
    await until_gone(stub)
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await stub.RepositoryModelUnload(unload, timeout=SECONDS)
    assert unknown.value.code() == grpc.StatusCode.NOT_FOUND
