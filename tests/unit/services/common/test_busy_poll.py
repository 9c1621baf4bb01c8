"""Busy polling: for as long as it pays, and no longer."""

from __future__ import annotations

import asyncio
import time

import pytest

from services.common.busy_poll import BusyPoll

SECONDS = 0.05


class Turns:
    """Counts how often the loop goes round, by what the system is asked for each time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        monkeypatch.setattr("os.sched_yield", self._turn)

    def _turn(self) -> None:
        self.count += 1


@pytest.fixture
async def poll() -> BusyPoll:
    return BusyPoll()


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> Turns:
    return Turns(monkeypatch)


async def taught(poll: BusyPoll) -> BusyPoll:
    """Has it see that an answer may come soon."""
    poll.expect(SECONDS)
    poll.arrived()
    return poll


async def test_it_sleeps_until_it_has_seen_that_polling_pays(poll: BusyPoll, turns: Turns) -> None:
    poll.expect(SECONDS)
    await asyncio.sleep(SECONDS / 5)
    assert turns.count == 0


async def test_it_stays_awake_until_the_time_is_over(poll: BusyPoll, turns: Turns) -> None:
    await taught(poll)
    poll.expect(SECONDS)
    began = time.monotonic()
    await asyncio.sleep(SECONDS / 5)
    assert turns.count > 1
    await asyncio.sleep(began + 2 * SECONDS - time.monotonic())
    after = turns.count
    await asyncio.sleep(SECONDS / 5)
    assert turns.count == after


async def test_it_sleeps_once_what_it_polls_for_has_come(poll: BusyPoll, turns: Turns) -> None:
    await taught(poll)
    poll.expect(10.0)
    await asyncio.sleep(0.01)
    poll.arrived()
    after = turns.count
    assert after > 1
    await asyncio.sleep(0.02)
    assert turns.count == after


async def test_it_learns_that_it_does_not_pay_any_more(poll: BusyPoll, turns: Turns) -> None:
    await taught(poll)
    poll.expect(SECONDS)
    await asyncio.sleep(3 * SECONDS)
    poll.arrived()
    before = turns.count
    poll.expect(SECONDS)
    await asyncio.sleep(SECONDS / 5)
    assert turns.count == before


async def test_it_can_be_switched_off(poll: BusyPoll, turns: Turns) -> None:
    for _ in range(3):
        poll.expect(0.0)
        poll.arrived()
    poll.expect(0.0)
    await asyncio.sleep(SECONDS / 5)
    assert turns.count == 0


async def test_others_are_served_meanwhile(poll: BusyPoll, turns: Turns) -> None:
    await taught(poll)
    poll.expect(10.0)
    async with asyncio.timeout(5):
        await asyncio.sleep(0.01)
    poll.arrived()
    assert turns.count > 1
