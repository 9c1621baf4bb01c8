import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.dispatch.request_queue import RequestQueue, Waiting
from services.gateway.requests.request import Request, Segment
from steersman.errors import DeadlineExceededError, ResourceExhaustedError
from tests.unit.services.gateway.numbers import request

SHED = ResourceExhaustedError("gave way")
KINDS_OF_END = ["none", "none", "abandoned", "failed"]


class CountedQueue(RequestQueue):
    """A queue that tells all that it counts."""

    def __init__(self) -> None:
        self.total = Waiting()
        super().__init__(self.total)

    @property
    def counted(self) -> tuple[int, int, int]:
        """Observations, here and in all queues, and bytes."""
        return self.waiting, self.total.observations, self.total.size_bytes


def filled(*requests: Request) -> CountedQueue:
    queue = CountedQueue()
    for entry in requests:
        queue.push(Segment(entry, 0, entry.size))
    return queue


def parts(batch: list[Segment]) -> list[tuple[Request, int, int]]:
    return [(segment.request, segment.start, segment.size) for segment in batch]


def test_first_come_is_first_served() -> None:
    requests = [request(size) for size in (1, 2, 1)]
    queue = filled(*requests)
    assert queue.counted == (4, 4, 32)
    assert parts(queue.take(8, 8, 0.0)) == [(entry, 0, entry.size) for entry in requests]
    assert queue.counted == (0, 0, 0)
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


def test_what_nobody_waits_for_is_known_apart_and_the_latest_of_it() -> None:
    patient = [request(size, interactive=False) for size in (1, 2, 3)]
    queue = filled(*patient, request(4))
    assert queue.counted == (10, 10, 80)
    assert (queue.total.sheddable, queue.total.sheddable_bytes) == (6, 48)
    for entry in reversed(patient):
        latest = queue.latest_sheddable
        assert latest is not None
        assert latest.request is entry
        entry.fail(SHED, 0.0)
    assert (queue.waiting, queue.total.sheddable, queue.total.sheddable_bytes) == (4, 0, 0)
    assert queue.latest_sheddable is None


@pytest.mark.parametrize("interactive", [True, False])
def test_who_goes_frees_the_place_at_once(interactive: bool) -> None:
    requests = [request(3, interactive=interactive) for _ in range(3)]
    queue = filled(*requests)
    requests[1].abandon(0.0)
    assert queue.counted == (6, 6, 48)
    requests[0].fail(SHED, 0.0)
    assert queue.counted == (3, 3, 24)
    assert parts(queue.take(8, 8, 0.0)) == [(requests[2], 0, 3)]
    assert (queue.waiting, queue.total) == (0, Waiting())


def test_a_request_frees_all_of_its_places() -> None:
    entry, other = request(9), request(2)
    queue = filled(entry, other)
    first, second = queue.take(3, 3, 0.0), queue.take(3, 3, 0.0)
    queue.push_front(second)
    queue.push_front(first)
    assert (queue.waiting, entry.waiting_segments) == (11, 3)
    entry.abandon(0.0)
    assert (queue.counted, entry.waiting_segments) == ((2, 2, 16), 0)
    assert parts(queue.take(8, 8, 0.0)) == [(other, 0, 2)]


def test_what_a_request_leaves_behind_does_not_pile_up() -> None:
    waiting = request()
    queue = filled(waiting)
    for _ in range(10_000):
        entry = request()
        queue.push(Segment(entry, 0, 1))
        entry.abandon(0.0)
    assert len(queue._interactive) < 100
    assert parts(queue.take(8, 8, 0.0)) == [(waiting, 0, 1)]


def test_large_requests_that_have_finished_are_not_kept_in_line() -> None:
    waiting = request()
    queue = filled(waiting)
    for _ in range(20):
        # 8 bytes a number.
        entry = request(100_000)
        queue.push(Segment(entry, 0, entry.size))
        entry.abandon(0.0)
        assert sum(segment.size_bytes for segment in queue._interactive) < 2 * 1024 * 1024
    assert queue.counted == (1, 1, 8)
    assert parts(queue.take(8, 8, 0.0)) == [(waiting, 0, 1)]
    assert queue.head is None
    assert (queue._finished, queue._finished_bytes) == (0, 0)


def test_who_has_finished_is_not_put_in_line() -> None:
    gone, other = request(), request()
    queue = filled(gone, other)
    batch = queue.take(8, 8, 0.0)
    gone.abandon(0.0)
    queue.push_front(batch)
    queue.push(Segment(gone, 0, 1))
    assert queue.waiting == 1
    assert parts(queue.take(8, 8, 0.0)) == [(other, 0, 1)]


def test_everything_can_be_taken_at_once() -> None:
    patient, interactive = request(2, interactive=False), request()
    queue = filled(patient, interactive)
    assert parts(queue.drain()) == [(interactive, 0, 1), (patient, 0, 2)]
    assert (queue.counted, queue.head) == ((0, 0, 0), None)


@given(
    st.lists(st.tuples(st.integers(1, 9), st.booleans(), st.booleans(), st.sampled_from(KINDS_OF_END)), max_size=8),
    st.integers(1, 6),
    st.lists(st.tuples(st.integers(1, 6), st.booleans()), min_size=1),
)
def test_every_observation_is_taken_once_and_in_order(
    kinds: list[tuple[int, bool, bool, str]], limit: int, steps: list[tuple[int, bool]]
) -> None:
    requests = []
    for size, interactive, isolated, _ in kinds:
        entry = request(size, interactive=interactive)
        entry.isolated = isolated
        requests.append(entry)
    queue = filled(*requests)
    for entry, (*_, end) in zip(requests, kinds, strict=True):
        if end == "abandoned":
            entry.abandon(0.0)
        elif end == "failed":
            entry.fail(SHED, 0.0)
    wanted = [entry for entry in requests if not entry.finished]
    taken: list[Segment] = []
    for share, is_put_back in itertools.cycle(steps):
        left = sum(entry.size for entry in wanted) - sum(segment.size for segment in taken)
        assert queue.counted == (left, left, 8 * left)
        assert queue.total.sheddable == sum(entry.waiting for entry in wanted if not entry.interactive)
        if not left:
            break
        batch = queue.take(limit, min(share, limit), 0.0)
        assert sum(segment.size for segment in batch) <= limit
        assert len(batch) == 1 or not any(segment.request.isolated for segment in batch)
        if is_put_back:
            queue.push_front(batch)
            batch = queue.take(limit, limit, 0.0)
        taken += batch
    in_order = sorted(wanted, key=lambda entry: not entry.interactive)
    assert [
        (segment.request, index) for segment in taken for index in range(segment.start, segment.start + segment.size)
    ] == [(entry, index) for entry in in_order for index in range(entry.size)]
