import asyncio
import time

import pytest

from services.gateway.dispatch.admission import Limits
from services.gateway.intake.waiting_room import WaitingRoom
from steersman.errors import (
    DeadlineExceededError,
    NotFoundError,
    ResourceExhaustedError,
    UnavailableError,
)
from tests.unit.services.gateway.numbers import until

NOBODY = UnavailableError("no replica is attached yet")


class Replica:
    """Counts how often it is asked for, and cannot answer before it is told that it can."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.error: Exception | None = NOBODY
        self.attempts = 0

    async def request_replica(self, policy: str) -> None:
        self.asked.append(policy)

    def attempt(self) -> str:
        self.attempts += 1
        if self.error is not None:
            raise self.error
        return "answered"


@pytest.fixture
def replica() -> Replica:
    return Replica()


@pytest.fixture
def room(replica: Replica) -> WaitingRoom:
    room = WaitingRoom(Limits(2, 100, 50), 5.0, replica.request_replica)
    room.expect({"numbers"})
    return room


def wait(
    room: WaitingRoom, replica: Replica, address: str = "numbers", size_bytes: int = 1, seconds: float = 4.0
) -> asyncio.Task[str]:
    deadline = time.monotonic() + seconds
    return asyncio.create_task(room.until_served(NOBODY, address, size_bytes, deadline, replica.attempt))


async def test_a_request_waits_until_a_replica_attaches(room: WaitingRoom, replica: Replica) -> None:
    waiting = [wait(room, replica), wait(room, replica, "numbers:3")]
    await until(lambda: room.waiting("numbers") == 2)
    await until(lambda: replica.asked == ["numbers"])
    assert replica.attempts == 0
    replica.error = None
    room.wake("numbers")
    assert await asyncio.gather(*waiting) == ["answered", "answered"]
    assert room.waiting("numbers") == 0


async def test_a_replica_that_cannot_answer_yet_is_no_end_of_waiting(room: WaitingRoom, replica: Replica) -> None:
    waiting = wait(room, replica)
    await until(lambda: room.waiting("numbers") == 1)
    room.wake("numbers")
    await until(lambda: replica.attempts == 1 and room.waiting("numbers") == 1)
    replica.error = None
    room.wake("numbers")
    assert await waiting == "answered"


@pytest.mark.parametrize("error", [UnavailableError("cannot reach Ray Serve"), RuntimeError("nobody expected this")])
async def test_a_replica_is_asked_for_while_somebody_waits_also_when_that_fails(
    replica: Replica, error: Exception
) -> None:
    async def fail(policy: str) -> None:
        replica.asked.append(policy)
        raise error

    room = WaitingRoom(Limits(2, 100, 50), 5.0, fail)
    room.expect({"numbers"})
    waiting = wait(room, replica)
    await until(lambda: len(replica.asked) == 2)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await until(lambda: not room._asking)
    assert len(replica.asked) == 2, "nobody waits any more"


async def test_what_is_not_expected_is_not_waited_for(room: WaitingRoom, replica: Replica) -> None:
    with pytest.raises(UnavailableError, match="attached yet"):
        await wait(room, replica, "letters")
    assert not room.expects("letters:2")
    assert room.expects("numbers:2")
    assert replica.asked == []


async def test_who_waits_for_what_fails_meanwhile_is_told_why(room: WaitingRoom, replica: Replica) -> None:
    waiting = wait(room, replica)
    await until(lambda: room.waiting("numbers") == 1)
    replica.error = NotFoundError("it was undeployed")
    room.expect({"letters"})
    with pytest.raises(NotFoundError, match="undeployed"):
        await waiting


async def test_the_deadline_rules(room: WaitingRoom, replica: Replica) -> None:
    begin = time.monotonic()
    with pytest.raises(DeadlineExceededError, match="first replica of policy 'numbers': no replica"):
        await wait(room, replica, seconds=0.05)
    assert time.monotonic() - begin < 5
    assert room.waiting("numbers") == 0


async def test_without_a_deadline_waiting_ends_all_the_same(replica: Replica) -> None:
    room = WaitingRoom(Limits(2, 100, 50), 0.05, replica.request_replica)
    room.expect({"numbers"})
    with pytest.raises(UnavailableError, match=r"within 0\.05 s: no replica"):
        await wait(room, replica, seconds=float("inf"))


@pytest.mark.parametrize(("sizes", "size_bytes"), [((1, 1), 1), ((60,), 60)])
async def test_there_is_only_so_much_room(
    room: WaitingRoom, replica: Replica, sizes: tuple[int, ...], size_bytes: int
) -> None:
    waiting = [wait(room, replica, size_bytes=size) for size in sizes]
    await until(lambda: room.waiting("numbers") == len(sizes))
    with pytest.raises(ResourceExhaustedError, match="wait already") as refused:
        await wait(room, replica, size_bytes=size_bytes)
    assert refused.value.pushback_milliseconds == 50
    replica.error = None
    room.wake("numbers")
    await asyncio.gather(*waiting)


async def test_what_waits_elsewhere_can_have_a_replica_asked_for(room: WaitingRoom, replica: Replica) -> None:
    room.ask_for_replica("letters")
    room.ask_for_replica("numbers")
    room.ask_for_replica("numbers")
    await until(lambda: replica.asked == ["numbers"])


async def test_nobody_waits_at_a_gateway_that_stops(room: WaitingRoom, replica: Replica) -> None:
    waiting = wait(room, replica)
    await until(lambda: room.waiting("numbers") == 1)
    replica.error = UnavailableError("this gateway is stopping")
    room.close()
    with pytest.raises(UnavailableError, match="stopping"):
        await waiting
    room.expect({"numbers"})
    assert not room.expects("numbers")


async def test_a_gateway_that_has_just_started_lets_requests_wait_for_what_may_be_deployed(replica: Replica) -> None:
    room = WaitingRoom(Limits(2, 100, 50), 5.0, replica.request_replica)
    room.expect_anything()
    assert room.expects("numbers")
    deployed, unknown = wait(room, replica), wait(room, replica, "letters")
    await until(lambda: room.waiting("numbers") == room.waiting("letters") == 1)
    assert replica.asked == []
    replica.error = NotFoundError("no such policy")
    room.expect({"numbers"})
    with pytest.raises(NotFoundError):
        await unknown
    await until(lambda: replica.asked == ["numbers"])
    replica.error = None
    room.wake("numbers")
    assert await deployed == "answered"
    assert not room.expects("letters")


async def test_strangers_names_do_not_pile_up_while_nothing_is_known(replica: Replica) -> None:
    room = WaitingRoom(Limits(2, 100, 50), 5.0, replica.request_replica)
    room.expect_anything()
    waiting = [wait(room, replica, f"policy-{number}") for number in range(1000)]
    await until(lambda: room.waiting("policy-999") == 1)
    assert not room.expects("another")
    assert room.expects("policy-5")
    room.close()
    with pytest.raises(UnavailableError):
        await asyncio.gather(*waiting)
