import asyncio
import time

from faults.clients import Ask
from faults.generator import MOST_IN_FLIGHT, PROTOCOLS, Kind
from faults.tally import Tally
from steersman.errors import DeadlineExceededError, UnavailableError


def test_the_shares_of_the_protocols_are_the_whole() -> None:
    assert sum(protocol.share for protocol in PROTOCOLS) == 1.0


async def test_requests_take_turns_on_the_clients_and_are_counted_with_the_others() -> None:
    asked: list[str] = []
    together, stopped = Tally(), asyncio.Event()

    def client(name: str) -> Ask:
        async def ask() -> None:
            asked.append(name)
            if len(asked) == 100:
                stopped.set()

        return ask

    kind = Kind([client("one"), client("other")], 2000.0, together)
    await kind.run(stopped)
    assert asked[:4] == ["one", "other", "one", "other"]
    assert len(asked) == kind.tally.sent == kind.tally.counts().answered == together.counts().answered
    assert kind.tally.counts().failed == 0


async def test_requests_are_made_at_their_rate_whether_or_not_answers_have_come() -> None:
    answer, stopped = asyncio.Event(), asyncio.Event()
    asked: list[float] = []

    async def ask() -> None:
        asked.append(time.monotonic())
        if len(asked) == 100:
            stopped.set()
            answer.set()
        await answer.wait()

    kind = Kind([ask], 200.0)
    await kind.run(stopped)
    assert asked[99] - asked[0] > 0.4  # 99 of 200 requests per second are half a second's
    assert kind.tally.counts().answered == kind.tally.sent


async def test_no_more_are_in_flight_than_may_be() -> None:
    answer, stopped = asyncio.Event(), asyncio.Event()
    in_flight: list[None] = []
    most = 0

    def end() -> None:
        stopped.set()
        answer.set()

    async def ask() -> None:
        nonlocal most
        in_flight.append(None)
        most = max(most, len(in_flight))
        if len(in_flight) == MOST_IN_FLIGHT:
            # Thousands more are due until then.
            asyncio.get_running_loop().call_later(0.05, end)
        await answer.wait()
        in_flight.pop()

    kind = Kind([ask], 100_000.0)
    await kind.run(stopped)
    assert most == kind.tally.sent == MOST_IN_FLIGHT


async def test_whatever_a_client_raises_is_a_failure() -> None:
    stopped = asyncio.Event()
    errors = [UnavailableError("nobody there"), ZeroDivisionError("a fault of the client's own")]

    async def ask() -> None:
        if errors:
            raise errors.pop()
        stopped.set()

    kind = Kind([ask], 1000.0)
    await kind.run(stopped)
    assert kind.tally.counts().failures == {
        "UnavailableError: nobody there": 1,
        "ZeroDivisionError: a fault of the client's own": 1,
    }
    assert kind.tally.counts().answered == kind.tally.sent - 2


async def test_clients_in_a_hurry_fail_only_late() -> None:
    stopped = asyncio.Event()
    pauses = [0.0, 0.2]

    async def ask() -> None:
        if pauses:
            await asyncio.sleep(pauses.pop())
        else:
            stopped.set()
        raise DeadlineExceededError("too late")

    kind = Kind([ask], 1000.0, late_after=0.1)
    await kind.run(stopped)
    assert kind.tally.counts().failed == 1
    (reason,) = kind.tally.counts().failures
    assert reason.endswith("too late")
