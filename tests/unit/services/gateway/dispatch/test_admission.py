import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.dispatch.admission import Limits, make_room
from services.gateway.dispatch.request_queue import RequestQueue, Waiting
from services.gateway.requests.request import Request, Segment
from steersman.errors import ResourceExhaustedError
from tests.unit.services.gateway.numbers import request

BYTES = 8
"""Bytes of one observation."""


class Queues:
    """The queues of a policy, each with some requests.

    Attributes:
        waiting: What waits in all of them.
    """

    def __init__(self, *queues: list[Request]) -> None:
        self.waiting = Waiting()
        self._queues = []
        for requests in queues:
            queue = RequestQueue(self.waiting)
            for entry in requests:
                queue.push(Segment(entry, 0, entry.size))
            self._queues.append(queue)

    def make_room(self, limits: Limits, entry: Request) -> None:
        make_room(limits, self.waiting, lambda: self._queues, entry)


def limits(observations: int, size_bytes: int = 10**6) -> Limits:
    return Limits(observations=observations, size_bytes=size_bytes, pushback_milliseconds=70)


def test_nothing_is_shed_for_whom_there_is_no_room_all_the_same() -> None:
    interactive, patient = request(8), request(2, interactive=False)
    queues = Queues([interactive, patient])
    with pytest.raises(ResourceExhaustedError, match="but 10 of 10"):
        queues.make_room(limits(10), request(3))
    assert not patient.finished
    queues.make_room(limits(10), request(2))
    assert isinstance(patient.error, ResourceExhaustedError)
    assert not interactive.finished


def test_no_more_is_shed_than_is_needed() -> None:
    patient = [request(interactive=False) for _ in range(4)]
    queues = Queues(patient)
    queues.make_room(limits(5), request(3))
    assert [entry.finished for entry in patient] == [False, False, True, True], "one place was free"


def test_the_latest_goes_first_whatever_lane_it_waits_in() -> None:
    patient = [request(interactive=False) for _ in range(4)]
    for number, entry in enumerate(patient):
        entry.arrived = float(number)
    queues = Queues([patient[0], patient[3]], [patient[1], patient[2]])
    queues.make_room(limits(4), request(2))
    assert [entry.finished for entry in patient] == [False, False, True, True]


def test_room_in_bytes_is_made_as_well() -> None:
    patient = [request(interactive=False) for _ in range(4)]
    queues = Queues(patient)
    queues.make_room(limits(100, 4 * BYTES), request(3))
    assert [entry.finished for entry in patient] == [False, True, True, True]


def test_a_place_that_was_given_up_is_free_at_once() -> None:
    waiting = [request() for _ in range(3)]
    queues = Queues(waiting)
    with pytest.raises(ResourceExhaustedError):
        queues.make_room(limits(3), request())
    waiting[1].abandon(0.0)
    queues.make_room(limits(3), request())


@given(
    waiting=st.lists(st.tuples(st.integers(1, 5), st.booleans(), st.integers(0, 2)), max_size=12),
    size=st.integers(1, 8),
    interactive=st.booleans(),
    observations=st.integers(1, 20),
    most_bytes=st.integers(8, 160),
)
def test_shedding_makes_room_or_does_not_happen(
    waiting: list[tuple[int, bool, int]], size: int, interactive: bool, observations: int, most_bytes: int
) -> None:
    requests = [request(length, interactive=is_interactive) for length, is_interactive, _ in waiting]
    lanes: list[list[Request]] = [[], [], []]
    for number, (entry, (*_, lane)) in enumerate(zip(requests, waiting, strict=True)):
        entry.arrived = float(number)
        lanes[lane].append(entry)
    queues = Queues(*lanes)
    newcomer = request(size, interactive=interactive)

    def fits(others: list[Request]) -> bool:
        taken = sum(entry.size for entry in others)
        return not taken or (taken + size <= observations and BYTES * (taken + size) <= most_bytes)

    try:
        queues.make_room(limits(observations, most_bytes), newcomer)
    except ResourceExhaustedError:
        assert not any(entry.finished for entry in requests)
        assert not fits(requests)
        assert not interactive or not fits([entry for entry in requests if entry.interactive])
    else:
        left = [entry for entry in requests if not entry.finished]
        assert fits(left)
        assert queues.waiting.observations == sum(entry.size for entry in left)
        shed = [entry for entry in requests if entry.finished]
        assert not any(entry.interactive for entry in shed)
        if shed:
            assert interactive
            assert not fits([*left, shed[0]]), "the last one that went had to go"
            assert all(entry.arrived < shed[0].arrived for entry in left if not entry.interactive)
