"""`steersman policy show` and the RPC behind it, against a real gateway and replica."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.common.bundle import Bundle, write_bundle
from tests.bundles import write_gaussian_bundle
from tests.command_line import CommandLine
from tests.gateways import attached_replica, gateway_process

pytestmark = pytest.mark.integration

PROVENANCE = {
    "run_id": "r1",
    "settings": {"lr": 0.5, "fcnet_hiddens": [8, 8]},
    "steps": 4096,
    "metrics": {"return": 9.5},
}


@pytest.fixture
async def bundle(tmp_path: Path, steersman: CommandLine) -> AsyncIterator[Bundle]:
    """A bundle that is served as version 3 of `swing`, where the command line looks."""
    made = write_gaussian_bundle(tmp_path / "bundle")
    spec = made.spec
    spec.algorithm, spec.environment_id = "PPO", "Swing-v0"
    made = write_bundle(tmp_path / "bundle", made.model_path.read_bytes(), spec, PROVENANCE)
    with gateway_process(tmp_path / "var") as gateway:
        steersman.configure(gateway_address=gateway.address)
        async with attached_replica(gateway, "swing", {3: made}):
            yield made


def run(steersman: CommandLine, *arguments: str) -> str:
    result = steersman("policy", "show", *arguments)
    assert result.exit_code == 0, result.errors
    return result.output


@pytest.mark.parametrize("address", ["swing", "swing:3"])
async def test_people_see_what_is_inside(bundle: Bundle, steersman: CommandLine, address: str) -> None:
    # In a thread, since the replica lives in this event loop.
    output = await asyncio.to_thread(run, steersman, address)
    assert output.startswith("swing:3 (PPO, Swing-v0)")
    for expected in (
        "observation  float32[",
        "diagonal_gaussian, 4 parameters",
        "action_distribution_inputs, log_probability, value",
        bundle.spec.model_sha256,
        "1 MatMul",
        "settings.fcnet_hiddens  [8",
        "metrics.return",
        "4096",
    ):
        assert " ".join(expected.split()) in " ".join(output.split()), expected


async def test_programs_get_all_of_it(bundle: Bundle, steersman: CommandLine) -> None:
    shown = json.loads(await asyncio.to_thread(run, steersman, "swing", "--json"))
    assert (shown["policy"], shown["version"], shown["replicas"]) == ("swing", 3, 1)
    assert shown["provenance"] == PROVENANCE
    assert shown["model"]["bytes"] == bundle.model_path.stat().st_size
    assert shown["model"]["parameters"] > 0
    assert {"name": "MatMul", "count": 1} in shown["model"]["operators"]
    assert shown["spec"]["model_sha256"] == bundle.spec.model_sha256


@pytest.mark.usefixtures("bundle")
async def test_a_policy_that_is_not_there_is_an_error(steersman: CommandLine) -> None:
    result = await asyncio.to_thread(steersman, "policy", "show", "nobody")
    assert result.exit_code == 1
    assert "'nobody'" in result.errors
