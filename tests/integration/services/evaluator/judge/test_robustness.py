"""Evaluations in environments that are made harder."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyarrow import parquet

from deploy.free_ports import free_address
from services.common.bundle import Bundle
from services.evaluator.judge.archive import Archive
from steersman.v1 import evaluator_pb2
from tests.bundles import write_counting_bundle
from tests.gateways import GatewayProcess, attached_replica
from tests.integration.services.evaluator.serving import evaluator, report_of

pytestmark = pytest.mark.integration


async def test_a_delay_costs_a_policy_with_memory_every_reward(gateway: GatewayProcess, tmp_path: Path) -> None:
    """The environment rewards the sum of what it has shown, which is another one in each step."""
    request = evaluator_pb2.EvaluateRequest(
        policy="counting",
        environment_id="Summing-v0",
        episodes=6,
        disturbances=[evaluator_pb2.Disturbance(kind=evaluator_pb2.DISTURBANCE_KIND_DELAYED_ACTIONS, strengths=[1, 0])],
    )
    async with (
        attached_replica(gateway, "counting", {1: write_counting_bundle(tmp_path)}),
        evaluator(gateway.address) as stub,
    ):
        report = await report_of(stub, request)
    (curve,) = report.robustness
    assert curve.disturbance == request.disturbances[0]
    late, in_time = curve.points
    assert (late.strength, in_time.strength) == (1, 0)
    assert (late.mean, late.success_rate) == (0.0, 0.0)
    assert list(in_time.episodes) == list(report.episodes), "no delay is no change"


async def test_curves_are_of_the_same_seeds_again_and_again(
    gateway: GatewayProcess, bundle: Bundle, tmp_path: Path
) -> None:
    archive = Archive(tmp_path, f"http://{free_address()}")
    disturbances = [
        evaluator_pb2.Disturbance(kind=evaluator_pb2.DISTURBANCE_KIND_OBSERVATION_NOISE, strengths=[0.5]),
        evaluator_pb2.Disturbance(kind=evaluator_pb2.DISTURBANCE_KIND_PARAMETER, attribute="gravity", strengths=[1, 3]),
    ]
    async with attached_replica(gateway, "cartpole", {1: bundle}), evaluator(gateway.address, archive) as stub:
        one, many = [
            await report_of(
                stub,
                evaluator_pb2.EvaluateRequest(
                    policy="cartpole", episodes=8, seed=3, num_environments=n, disturbances=disturbances, record=True
                ),
            )
            for n in (1, 8)
        ]
    assert list(one.robustness) == list(many.robustness), "however many environments play"
    noise, gravity = one.robustness
    for point in (*noise.points, *gravity.points):
        assert [row.seed for row in point.episodes] == list(range(3, 11))
        assert point.mean_interval.low <= point.mean <= point.mean_interval.high
    assert list(gravity.points[0].episodes) == list(one.episodes)
    assert list(gravity.points[1].episodes) != list(one.episodes)
    assert list(noise.points[0].episodes) != list(one.episodes)
    folder = Path(one.artifact_uri)
    for name in ("robustness-1.png", "robustness-2.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    table = parquet.read_table(folder / "episodes.parquet")
    assert table.column("disturbance").to_pylist()[::8] == [
        "",
        "observation_noise",
        "parameter gravity",
        "parameter gravity",
    ]
    assert table.column("strength").to_pylist()[::8] == [None, 0.5, 1.0, 3.0]
