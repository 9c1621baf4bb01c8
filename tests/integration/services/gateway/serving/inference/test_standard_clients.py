"""Standard clients, unmodified, in processes of their own, against a gateway process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.common.bundle import Bundle
from services.policy.runtime import PolicyRuntime
from tests.bundles import write_counting_bundle
from tests.gateways import GatewayProcess, attached_replica, silent_replica
from tests.standard_clients import installation
from tests.standard_clients.installation import installed

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

PROGRAMS = Path(installation.__file__).parent
ROWS = np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)


@contextlib.asynccontextmanager
async def policies(gateway: GatewayProcess, bundle: Bundle, folder: Path) -> AsyncIterator[None]:
    """Serves what the programs expect."""
    async with (
        attached_replica(gateway, "linear", {1: bundle}),
        attached_replica(gateway, "counting", {1: write_counting_bundle(folder)}),
        silent_replica(gateway, "slow", bundle),
    ):
        yield


async def run(*command: str, **variables: str) -> str:
    """Runs a program to its end and gives what it printed."""
    # Their own packages, and not what PYTHONPATH offers.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | variables
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(120):
        printed, complained = await process.communicate()
    assert process.returncode == 0, printed.decode() + complained.decode()
    return printed.decode()


async def run_program(python: Path, program: str, gateway: GatewayProcess) -> Any:  # noqa: ANN401 - JSON
    return json.loads(await run(str(python), str(PROGRAMS / program), gateway.address))


async def test_tritonclient(gateway: GatewayProcess, bundle: Bundle, tmp_path: Path) -> None:
    python = installed(installation.client_python, "triton")
    computed = PolicyRuntime(bundle).compute({"observation": ROWS})
    actions = computed["action"].tolist()
    async with policies(gateway, bundle, tmp_path):
        found = await run_program(python, "triton_program.py", gateway)
    assert found["live"] == [True, True, True]
    assert found["server"]["name"] == "steersman"
    assert found["batch"] == found["single"] == actions
    assert found["asynchronous"] == actions[:3]
    assert found["extras"] == ["action", "log_probability"]
    assert np.all(np.array(found["log_probability"]) < 0)
    assert found["sequence"] == [1, 2, 3]
    assert found["streamed"][:-1] == actions
    assert "expected one of the deployed policies" in found["streamed"][-1]
    assert found["ready"] == [True, False, False, False]
    assert found["statuses"] == {
        "shape": "StatusCode.INVALID_ARGUMENT",
        "model": "StatusCode.NOT_FOUND",
        "version": "StatusCode.NOT_FOUND",
        "deadline": "StatusCode.DEADLINE_EXCEEDED",
        "trace": "StatusCode.UNIMPLEMENTED",
        # This gateway's registry cannot be reached.
        "load": "StatusCode.UNAVAILABLE",
        "no version": "StatusCode.INVALID_ARGUMENT",
        "too large": "StatusCode.INVALID_ARGUMENT",
        "after": "OK",
    }
    assert found["metadata"]["versions"] == ["1"]
    assert found["metadata"]["inputs"] == [{"name": "observation", "datatype": "FP32", "shape": ["-1", "4"]}]
    assert found["config"]["max_batch_size"] == 256
    assert found["config"]["input"] == [{"name": "observation", "data_type": "TYPE_FP32", "dims": ["4"]}]
    (counted,) = found["statistics"]
    # Batches of 32, 3, 32 and 32, and each row alone and on the stream.
    assert int(counted["inference_count"]) == 32 + 3 + 32 + 32 + 2 * 32
    assert int(counted["inference_stats"]["success"]["count"]) == 4 + 2 * 32
    assert int(counted["inference_stats"]["queue"]["ns"]) > 0
    assert int(counted["inference_stats"]["compute_infer"]["ns"]) > 0
    ready = [(entry["name"], entry["version"]) for entry in found["index"] if entry["state"] == "READY"]
    assert {("linear", "1"), ("counting", "1")} <= set(ready)


async def test_tritonclient_aio(gateway: GatewayProcess, bundle: Bundle, tmp_path: Path) -> None:
    python = installed(installation.client_python, "triton")
    actions = PolicyRuntime(bundle).compute({"observation": ROWS})["action"].tolist()
    async with policies(gateway, bundle, tmp_path):
        found = await run_program(python, "triton_aio_program.py", gateway)
    assert found["live"] == [True, True, True]
    assert found["single"] == found["streamed"] == actions
    assert found["ids"] == [str(index) for index in range(len(ROWS))]
    assert found["metadata"]["outputs"][0]["name"] == "action"


@pytest.mark.long
async def test_kserve(gateway: GatewayProcess, bundle: Bundle, tmp_path: Path) -> None:
    python = installed(installation.client_python, "kserve")
    actions = PolicyRuntime(bundle).compute({"observation": ROWS})["action"].tolist()
    async with policies(gateway, bundle, tmp_path):
        found = await run_program(python, "kserve_program.py", gateway)
    assert found["live"] == [True, True, True]
    assert found["raw"] == found["typed"] == actions
    assert found["answer"] == ["linear", "1", "7", 1]
    assert found["refused"] == "NOT_FOUND"
    assert found["unknown"] is False


@pytest.mark.long
@pytest.mark.parametrize(
    ("policy", "options"),
    [
        ("linear", ["--concurrency-range=4", "-b4"]),
        ("linear", ["--concurrency-range=8", "--streaming"]),
        # With memory, so that its requests go in sequences.
        ("counting", ["--concurrency-range=2"]),
    ],
    ids=["unary", "stream", "sequences"],
)
async def test_perf_analyzer(
    gateway: GatewayProcess, bundle: Bundle, tmp_path: Path, policy: str, options: list[str]
) -> None:
    program, variables = installed(installation.perf_analyzer)
    command = [str(program), f"-m{policy}", "-igrpc", f"-u{gateway.address}", "--request-count=100", *options]
    async with policies(gateway, bundle, tmp_path):
        printed = await run(*command, **variables)
    assert "Failed" not in printed
    client, server = printed.split("Server:")
    assert int(_number(client, "Request count")) >= 100
    # What the gateway counted between perf_analyzer's two looks; the first comes when some are answered already.
    assert int(_number(server, "Successful request count")) > 50
    assert int(_number(server, "Inference count")) > 50 * (4 if "-b4" in options else 1)
    assert re.search(r"queue [1-9]\d* usec", server)
    assert re.search(r"compute infer [1-9]\d* usec", server)


def _number(text: str, name: str) -> str:
    found = re.search(rf"{name}: (\d+)", text)
    assert found, text
    return found[1]
