"""Several Ray nodes, each with processes of its own on this machine; one of them is lost under load."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import psutil
import pytest

from deploy import health, layout, processes, programs
from deploy.own_settings import own_settings
from services.common.bundle import Bundle
from steersman.aio import PolicyClient
from steersman.errors import SteersmanError
from steersman.settings import Settings
from steersman.v1 import deployment_pb2, deployment_pb2_grpc
from tests.gateways import GatewayProcess, gateway_process

pytestmark = [pytest.mark.integration, pytest.mark.long]

OBSERVATION = np.array([0.1, -0.2, 0.3, -0.4], np.float32)
REPLICAS = 4
CALLERS = 8


@dataclass(frozen=True)
class Cluster:
    """A Ray head, two more nodes, and a gateway.

    Attributes:
        settings: Their settings.
        nodes: The `ray start` of each node that is not the head.
        gateway: The gateway.
    """

    settings: Settings
    nodes: list[subprocess.Popen[bytes]]
    gateway: GatewayProcess

    def replicas(self) -> dict[str, tuple[str, int]]:
        """Gives node and process of each replica that runs, as Ray Serve knows them."""
        application = _ask(self.settings, "serve/applications/")["applications"].get("spread", {})
        found = application.get("deployments", {}).get("policy", {}).get("replicas", [])
        return {each["replica_id"]: (each["node_id"], each["pid"]) for each in found if each["state"] == "RUNNING"}

    async def until_ready(self) -> dict[str, tuple[str, int]]:
        """Waits until Ray Serve has all replicas and the gateway knows them; gives what `replicas` does."""
        async with asyncio.timeout(90), grpc.aio.insecure_channel(self.gateway.address) as channel:
            stub: deployment_pb2_grpc.DeploymentServiceAsyncStub = deployment_pb2_grpc.DeploymentServiceStub(channel)
            while True:
                listed = (await stub.ListDeployments(deployment_pb2.ListDeploymentsRequest())).deployments
                replicas = await asyncio.to_thread(self.replicas)
                if listed and listed[0].replicas_ready == len(replicas) == REPLICAS:
                    return replicas
                await asyncio.sleep(0.1)


@pytest.fixture(scope="module")
def cluster(short_folder: Path) -> Iterator[Cluster]:
    settings = own_settings(short_folder / "n")
    layout.make_folders(settings)
    layout.make_links(settings)
    programs.make_ray_token(settings)
    head = programs.ray_head(settings)
    environment = {**os.environ, **programs.stack_environment(settings), **head.environment}
    joining = environment | {"RAY_START_HOOK": "tests.ray_node.prepare"}
    node = [
        *head.command[: head.command.index("start") + 1],
        f"--address={settings.ray_address}",
        "--block",
        "--disable-usage-stats",
        "--node-ip-address=127.0.0.1",
        "--dashboard-agent-listen-port=0",
        "--min-worker-port=0",
        "--max-worker-port=0",
        "--num-cpus=4",
        f"--object-store-memory={80 * 1024 * 1024}",
    ]
    started: list[subprocess.Popen[bytes]] = []

    def start(command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        log = (layout.ray_folder(settings) / f"node-{len(started)}.log").open("wb")
        with log:
            started.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True))
        return started[-1]

    try:
        start(list(head.command), environment)
        _wait(lambda: head.probe() is health.Answer.READY, 200)
        nodes = []
        for alive in (2, 3):
            # One after the other: nodes on one host that start together get in each other's way.
            nodes.append(start(node, joining))
            _wait(lambda alive=alive: _nodes_alive(settings) == alive, 200)
        with gateway_process(
            settings.var_dir,
            ray_dashboard_url=settings.ray_dashboard_url,
            ray_token_path=str(settings.ray_token_file),
            serve_http_address=settings.serve_http_address,
        ) as gateway:
            yield Cluster(settings, nodes, gateway)
    finally:
        processes.end(processes.members(settings), 5)
        for process in started:
            process.wait(timeout=20)


def _ask(settings: Settings, path: str) -> Any:  # noqa: ANN401 - Ray's JSON
    """Asks the dashboard."""
    token = settings.ray_token_file.read_text().strip()
    url = f"{settings.ray_dashboard_url}/api/{path}"
    return httpx.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=30).raise_for_status().json()


def _nodes_alive(settings: Settings) -> int:
    return sum(node["state"] == "ALIVE" for node in _ask(settings, "v0/nodes")["data"]["result"]["result"])


def _wait(condition: Any, seconds: float) -> None:  # noqa: ANN401 - any function that tells
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _kill(node: subprocess.Popen[bytes]) -> set[int]:
    """Kills a node as a power cut would: all its processes at once. Gives their ids."""
    victims = [psutil.Process(node.pid)]
    victims += victims[0].children(recursive=True)
    for victim in victims:
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.kill()
    return {victim.pid for victim in victims}


async def test_a_node_that_is_lost_under_load_costs_no_request(cluster: Cluster, bundle: Bundle) -> None:
    async with grpc.aio.insecure_channel(cluster.gateway.address) as channel:
        stub: deployment_pb2_grpc.DeploymentServiceAsyncStub = deployment_pb2_grpc.DeploymentServiceStub(channel)
        await stub.Deploy(
            deployment_pb2.DeployRequest(policy="spread", version=1, bundle_uri=str(bundle.folder), replicas=REPLICAS)
        )
    before = await cluster.until_ready()
    share = Counter(node for node, _ in before.values())
    assert len(share) == 3, f"expected replicas on every node, got {share}"

    answered, failures, stopping = Counter[int](), list[str](), asyncio.Event()
    news = asyncio.Event()

    async def ask(caller: int, client: PolicyClient) -> None:
        while not stopping.is_set():
            try:
                await client.act(OBSERVATION)
            except SteersmanError as error:
                failures.append(str(error))
            else:
                answered[caller] += 1
            news.set()
            await asyncio.sleep(0.01)

    async with PolicyClient("spread", address=cluster.gateway.address) as client, asyncio.TaskGroup() as callers:
        for caller in range(CALLERS):
            callers.create_task(ask(caller, client))
        try:
            async with asyncio.timeout(20):
                while min(answered[caller] for caller in range(CALLERS)) < 20:
                    news.clear()
                    await news.wait()
            killed = _kill(cluster.nodes[0])
            lost = {replica for replica, (_, pid) in before.items() if pid in killed}
            assert lost, "expected replicas among what was killed"
            gone = {before[replica][0] for replica in lost}
            async with asyncio.timeout(90):
                after = await cluster.until_ready()
                while lost & after.keys():
                    after = await cluster.until_ready()
            seen = answered.total()
            async with asyncio.timeout(20):
                while answered.total() < seen + 100:
                    news.clear()
                    await news.wait()
        finally:
            stopping.set()
    assert failures == []
    assert not gone & {node for node, _ in after.values()}, "they are back on the nodes that are left"
    assert before.keys() - lost <= after.keys(), "the others were left alone"
