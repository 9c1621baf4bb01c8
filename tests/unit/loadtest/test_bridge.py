from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import gevent
import pytest

from loadtest.bridge import Bridge


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    made = Bridge()
    yield made
    made.close()


def test_results_and_errors_come_back(bridge: Bridge) -> None:
    async def double(number: int) -> int:
        await asyncio.sleep(0)
        assert threading.current_thread() is not threading.main_thread()
        return 2 * number

    async def fail() -> None:
        raise KeyError("lost")

    assert bridge.run(double(21)) == 42
    with pytest.raises(KeyError, match="lost"):
        bridge.run(fail())


def test_greenlets_wait_side_by_side(bridge: Bridge) -> None:
    arrived = []
    everybody = asyncio.Event()

    async def meet(number: int) -> int:
        arrived.append(number)
        if len(arrived) == 10:
            everybody.set()
        await everybody.wait()
        return number

    greenlets = [gevent.spawn(bridge.run, meet(number)) for number in range(10)]
    gevent.joinall(greenlets, timeout=10, raise_error=True)
    assert [greenlet.value for greenlet in greenlets] == list(range(10))


def test_lateness_is_measured(bridge: Bridge) -> None:
    with gevent.Timeout(10):
        while len(bridge.lags) < 4:
            gevent.sleep(0.01)
    assert all(lag >= 0 for _, lag in bridge.lags)
