"""Episodes on film."""

from __future__ import annotations

from pathlib import Path

import grpc
import imageio.v2 as imageio
import numpy as np
import pytest

from deploy.free_ports import free_address
from services.common.bundle import Bundle
from services.evaluator.judge.archive import Archive
from steersman.v1 import evaluator_pb2
from tests.gateways import GatewayProcess, attached_replica
from tests.integration.services.evaluator.serving import evaluator, report_of

pytestmark = pytest.mark.integration


async def test_the_best_the_median_and_the_worst_episode_are_filmed(
    gateway: GatewayProcess, bundle: Bundle, tmp_path: Path
) -> None:
    archive = Archive(tmp_path, f"http://{free_address()}")
    request = evaluator_pb2.EvaluateRequest(policy="cartpole", episodes=9, seed=5, record=True, videos=3)
    async with attached_replica(gateway, "cartpole", {2: bundle}), evaluator(gateway.address, archive) as stub:
        report = await report_of(stub, request)
    returns = sorted((episode.episode_return for episode in report.episodes), reverse=True)
    assert [video.episode_return for video in report.videos] == [returns[0], returns[4], returns[8]]
    for video in report.videos:
        row = report.episodes[video.episode]
        assert video.exact
        assert (video.episode_return, video.length) == (row.episode_return, row.length)
        mp4, gif = (Path(report.artifact_uri) / name for name in video.files)
        # What was seen before each step, and the end.
        pictures = list(imageio.get_reader(mp4).iter_data())
        assert len(pictures) == row.length + 1
        assert not np.array_equal(pictures[0], pictures[-1])
        assert len(imageio.mimread(gif)) == min(row.length + 1, len(pictures))


async def test_an_environment_without_pictures_is_named_after_the_report(
    gateway: GatewayProcess, bundle: Bundle, tmp_path: Path
) -> None:
    archive = Archive(tmp_path, f"http://{free_address()}")
    request = evaluator_pb2.EvaluateRequest(
        policy="cartpole", environment_id="Blind-v0", episodes=2, record=True, videos=1
    )
    async with attached_replica(gateway, "cartpole", {1: bundle}), evaluator(gateway.address, archive) as stub:
        call = stub.Evaluate(request)
        report = evaluator_pb2.EvaluationReport()
        while not report.episodes:
            event = await call.read()
            assert isinstance(event, evaluator_pb2.EvaluateResponse)
            report = event.report
        code, details = await call.code(), await call.details()
    assert (len(report.episodes), report.partial, len(report.videos)) == (2, False, 0)
    assert code == grpc.StatusCode.FAILED_PRECONDITION
    assert "expected an environment that draws pictures (render mode rgb_array), got None from Blind-v0" in (
        details or ""
    )
