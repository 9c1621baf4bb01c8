import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.dispatch.request_queue import RequestQueue
from services.gateway.requests.request import Request, Segment
from steersman.errors import DeadlineExceededError, ResourceExhaustedError
from tests.unit.services.gateway.numbers import request

SHED = ResourceExhaustedError("gave way")


def filled(*requests: Request) -> RequestQueue:
    queue = RequestQueue()
    for entry in requests:
        queue.push(Segment(entry, 0, entry.size))
    return queue


def parts(batch: list[Segment]) -> list[tuple[Request, int, int]]:
    return [(segment.request, segment.start, segment.size) for segment in batch]


def test_first_come_is_first_served() -> None:
    requests = [request(size) for size in (1, 2, 1)]
    queue = filled(*requests)
    assert (queue.waiting, queue.waiting_bytes) == (4, 32)
    assert parts(queue.take(8, 8, 0.0)) == [(entry, 0, entry.size) for entry in requests]
    assert (queue.waiting, queue.waiting_bytes) == (0, 0)
    assert queue.head is None
    assert queue.take(8, 8, 0.0) == []


def test_who_is_waited_for_goes_before_the_others() -> None:
    patient, interactive = request(interactive=False), request()
    queue = filled(patient, interactive)
    assert queue.head is not None
    assert queue.head.request is interactive
    assert parts(queue.take(8, 8, 0.0)) == [(interactive, 0, 1), (patient, 0, 1)]


def test_a_batch_stops_growing_at_its_share_but_keeps_requests_whole() -> None:
    requests = [request(2) for _ in range(3)]
    queue = filled(*requests)
    assert [segment.size for segment in queue.take(8, 3, 0.0)] == [2, 2]
    assert queue.waiting == 2


def test_what_does_not_fit_any_more_waits_for_the_next_batch() -> None:
    small, large = request(1), request(4)
    queue = filled(small, large)
    assert parts(queue.take(4, 4, 0.0)) == [(small, 0, 1)]
    assert parts(queue.take(4, 4, 0.0)) == [(large, 0, 4)]


def test_a_request_larger_than_a_batch_is_split_and_stays_first() -> None:
    large, other = request(7), request()
    queue = filled(large, other)
    assert parts(queue.take(3, 3, 0.0)) == [(large, 0, 3)]
    assert parts(queue.take(3, 3, 0.0)) == [(large, 3, 3)]
    assert parts(queue.take(3, 3, 0.0)) == [(large, 6, 1), (other, 0, 1)]


def test_what_is_put_back_is_first_in_its_order() -> None:
    first, second, third = (request() for _ in range(3))
    queue = filled(first, second)
    batch = queue.take(8, 8, 0.0)
    queue.push(Segment(third, 0, 1))
    queue.push_front(batch)
    assert [segment.request for segment in queue.take(8, 8, 0.0)] == [first, second, third]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_who_is_isolated_is_alone_in_a_batch(place: int) -> None:
    requests = [request() for _ in range(3)]
    requests[place].isolated = True
    queue = filled(*requests)
    assert queue.head_is_isolated == (place == 0)
    batches = []
    while batch := queue.take(8, 8, 0.0):
        batches.append([segment.request for segment in batch])
    assert [requests[place]] in batches
    assert list(itertools.chain(*batches)) == requests


def test_the_abandoned_and_the_expired_cost_nothing() -> None:
    abandoned, expired, wanted = request(), request(deadline=5.0), request(deadline=5.1)
    queue = filled(abandoned, expired, wanted)
    abandoned.abandon(0.0)
    assert parts(queue.take(8, 8, now=5.0)) == [(wanted, 0, 1)]
    assert isinstance(expired.error, DeadlineExceededError)
    assert abandoned.error is None


def test_the_expired_are_told_even_when_nobody_takes_them() -> None:
    expired, wanted = request(deadline=5.0, interactive=False), request(deadline=9.0)
    queue = filled(expired, wanted)
    queue.expire(5.0)
    assert isinstance(expired.error, DeadlineExceededError)
    assert not wanted.finished
    assert parts(queue.take(8, 8, 5.0)) == [(wanted, 0, 1)]


def test_only_what_nobody_waits_for_is_shed_and_only_as_much_as_needed() -> None:
    patient = [request(interactive=False) for _ in range(4)]
    interactive = request()
    queue = filled(interactive, *patient)
    queue.shed(observations=2, size_bytes=1, error=SHED)
    assert [entry.error for entry in patient] == [None, None, SHED, SHED]
    queue.shed(observations=1, size_bytes=10, error=SHED)
    assert [entry.error for entry in patient] == [SHED] * 4
    queue.shed(observations=1, size_bytes=1, error=SHED)
    assert not interactive.finished
    assert queue.waiting == 1


def test_everything_can_be_taken_at_once() -> None:
    patient, interactive = request(2, interactive=False), request()
    queue = filled(patient, interactive)
    assert parts(queue.drain()) == [(interactive, 0, 1), (patient, 0, 2)]
    assert (queue.waiting, queue.waiting_bytes, queue.head) == (0, 0, None)


@given(
    st.lists(st.tuples(st.integers(1, 9), st.booleans(), st.booleans(), st.booleans()), max_size=12),
    st.integers(1, 6),
    st.data(),
)
def test_every_observation_is_taken_once_and_in_order(
    kinds: list[tuple[int, bool, bool, bool]], limit: int, data: st.DataObject
) -> None:
    requests = []
    for size, interactive, isolated, abandoned in kinds:
        entry = request(size, interactive=interactive)
        entry.isolated = isolated
        requests.append(entry)
        if abandoned:
            entry.abandon(0.0)
    queue = filled(*requests)
    taken: list[Segment] = []
    while queue.waiting:
        batch = queue.take(limit, data.draw(st.integers(1, limit)), 0.0)
        assert sum(segment.size for segment in batch) <= limit
        assert len(batch) == 1 or not any(segment.request.isolated for segment in batch)
        if batch and data.draw(st.integers(0, 3)) == 0:
            queue.push_front(batch)
        else:
            taken += batch
    assert queue.waiting_bytes == 0
    wanted = [entry for entry in requests if not entry.finished]
    in_order = sorted(wanted, key=lambda entry: not entry.interactive)
    assert [
        (segment.request, index) for segment in taken for index in range(segment.start, segment.start + segment.size)
    ] == [(entry, index) for entry in in_order for index in range(entry.size)]
