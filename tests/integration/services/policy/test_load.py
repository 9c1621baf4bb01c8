"""What a replica reports for autoscaling, with a real gateway."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from steersman.aio import PolicyClient
from tests.bundles import write_slow_bundle
from tests.gateways import attached_replica, gateway_process

pytestmark = pytest.mark.integration


async def test_a_replica_reports_what_it_does_and_what_waits(tmp_path: Path) -> None:
    bundle = write_slow_bundle(tmp_path / "slow")
    observations = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    with gateway_process(tmp_path) as gateway:
        async with (
            attached_replica(gateway, "slow", {1: bundle}, max_batch_size=4) as replica,
            PolicyClient("slow", address=gateway.address) as client,
        ):
            await client.describe()
            replica.meter.report()
            asking = asyncio.gather(*(client.act(observation) for observation in observations))
            report = replica.meter.report()
            async with asyncio.timeout(10):
                while report.queue_depth < 16:
                    await asyncio.sleep(0.06)
                    report = replica.meter.report()
            assert report.backlog_seconds > 0
            assert report.queue_delay_seconds > 0
            replica.meter.report()
            await asyncio.sleep(0.1)
            report = replica.meter.report()
            assert report.busy_share > 0.8
            assert 0 < report.load <= report.busy_share
            await asking
            report = replica.meter.report()
            assert report.observations_per_second > 0
            async with asyncio.timeout(10):
                while report.idle_seconds < 0.4 or report.queue_depth >= 1:
                    await asyncio.sleep(0.1)
                    report = replica.meter.report()
            assert report.busy_share < 0.2
