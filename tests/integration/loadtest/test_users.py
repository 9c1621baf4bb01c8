"""Every kind of user, against a real gateway and a real replica."""

from __future__ import annotations

import asyncio
import csv
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from loadtest.objectives import judge
from loadtest.options import LoadOptions
from loadtest.runner import Plan, Run
from loadtest.shapes import Level, Levels, soak
from loadtest.timeline import Timeline
from loadtest.users import (
    PacedVectorActor,
    PolicyUser,
    RecurrentActor,
    Robot,
    SlowReader,
    StreamingActor,
    UnaryActor,
    VectorActor,
)
from steersman.aio import PolicyClient
from tests.bundles import write_linear_bundle, write_recurrent_bundle
from tests.gateways import GatewayProcess, gateway_process, replica_process, until_described

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

_KINDS = (UnaryActor, StreamingActor, VectorActor, Robot, PacedVectorActor, SlowReader)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("gateway")
    linear, recurrent = write_linear_bundle(folder / "linear"), write_recurrent_bundle(folder / "recurrent")
    with (
        gateway_process(folder) as process,
        replica_process("linear", linear, process),
        replica_process("recurrent", recurrent, process),
    ):
        asyncio.run(_until_served(process, "linear", "recurrent"))
        yield process


async def _until_served(gateway: GatewayProcess, *policies: str) -> None:
    for policy in policies:
        async with PolicyClient(policy, address=gateway.address) as client:
            await until_described(client)


def ran(gateway: GatewayProcess, kinds: dict[type[PolicyUser], int], shape: Levels, options: LoadOptions) -> Timeline:
    timeline = Timeline()
    told: list[str] = []
    with Run(Plan(kinds, shape, options, gateway.address), timeline) as run:
        run.wait(told.append)
    assert told
    return timeline


def test_every_kind_of_user_is_answered(gateway: GatewayProcess) -> None:
    options = LoadOptions(policy="linear", slow_seconds=0.2, vector_size=16)
    timeline = ran(gateway, dict.fromkeys(_KINDS, 1), soak(len(_KINDS), 6), options)

    assert timeline.kinds() == sorted(kind.kind for kind in _KINDS)
    for kind in _KINDS:
        requests = timeline.within(0, 10, kind.kind)
        assert not requests.failures
        assert len(requests.latencies) > 2, kind
        size = {"vectorised actor": 16, "paced vectorised actor": 16, "slow reader": 32}.get(kind.kind, 1)
        assert requests.observations == size * len(requests.latencies), kind
    assert timeline.is_paced
    # Other tests take their share of the machine, so that not every request comes when it is due.
    assert timeline.missed_within(0, 10) < len(timeline.within(0, 10).latencies) / 2
    assert timeline.stretches[0].users == len(_KINDS)
    assert timeline.served, "the gateway told of its replicas"
    assert timeline.served[-1].ready == 1
    assert timeline.generator
    assert all(verdict.holds for verdict in judge({"error_rate": 0.0}, timeline))


def test_a_recurrent_actor_hands_on_its_state(gateway: GatewayProcess, tmp_path: Path) -> None:
    # Whose sum, the policy's state, stays small however long it goes on.
    np.save(tmp_path / "observations.npy", np.array([[1.0], [-1.0]], np.float32))
    options = LoadOptions(policy="recurrent", recording=tmp_path / "observations.npy")
    timeline = ran(gateway, {RecurrentActor: 1}, soak(2, 3), options)
    requests = timeline.within(0, 10)
    assert not requests.failures
    assert len(requests.latencies) > 5


def test_users_come_and_go_with_the_levels(gateway: GatewayProcess) -> None:
    levels = Levels([Level(2, 2, "ladder"), Level(4, 2, "plateau"), Level(1, 2, "rest")])
    timeline = ran(gateway, {StreamingActor: 1}, levels, LoadOptions(policy="linear"))
    assert [(stretch.users, stretch.phase) for stretch in timeline.stretches] == [
        (2, "ladder"),
        (4, "plateau"),
        (1, "rest"),
    ]


def test_failures_are_counted_by_status(gateway: GatewayProcess, tmp_path: Path) -> None:
    np.save(tmp_path / "observations.npy", np.ones((5, 3), np.float32))
    options = LoadOptions(policy="linear", recording=tmp_path / "observations.npy")
    timeline = ran(gateway, {UnaryActor: 1}, soak(1, 2), options)
    failures = timeline.within(0, 10).failures
    assert failures
    assert all(failure.startswith("INVALID_ARGUMENT: ") for failure in failures)
    assert not judge({"error_rate": 0.0}, timeline)[0].holds


def test_locusts_own_command_line_runs_them_in_several_processes(gateway: GatewayProcess, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "loadtest", "web", "--headless", "--users", "2", "--run-time", "4s"]
    command += ["--processes", "2", "--host", gateway.address, "--policy", "linear", "--csv", str(tmp_path / "stats")]
    done = subprocess.run([*command, "StreamingActor"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "stats_stats.csv").open() as file:
        (row, _) = csv.DictReader(file)
    assert (row["Type"], row["Name"]) == ("streaming actor", "linear")
    assert int(row["Request Count"]) > 10
    assert int(row["Failure Count"]) == 0
    assert float(row["Average Content Size"]) == 1.0, "observations"


@pytest.mark.long
def test_locusts_own_command_line_takes_a_shape(gateway: GatewayProcess, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "loadtest", "web", "--headless", "--host", gateway.address, "--policy", "linear"]
    command += ["--shape", "spike", "--shape-users", "4", "--shape-seconds", "6"]
    command += ["--csv", str(tmp_path / "stats"), "--csv-full-history", "UnaryActor"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "stats_stats_history.csv").open() as file:
        users = {int(row["User Count"]) for row in csv.DictReader(file)}
    assert users >= {1, 4}
