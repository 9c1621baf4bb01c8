"""The generator against the floor, which is a real server in a process of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.generator import measure
from bench.loads import LOADS, SERVE_LOADS, Load
from bench.models import write_models
from bench.systems.floor import Floor


@pytest.fixture(scope="module")
def floor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Floor]:
    folder: Path = tmp_path_factory.mktemp("models")
    system = Floor()
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
    assert 0 < measured.latencies_ms[0] <= measured.latencies_ms[1]


async def test_a_rate_is_not_exceeded(floor: Floor) -> None:
    load = LOADS["half-peak"]
    measured = await measure(floor.target(load) or "", load, seconds=1.0, warm_up=0.1, rate=100)
    # At most what was asked for; how much less depends on who else uses this machine.
    assert 0 < measured.requests <= 110
