"""Faults of the gateway's own: they fail what they concern, are logged and counted once, and all else goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from services.gateway.dispatch.admission import Limits
from services.gateway.dispatch.dispatcher import Dispatcher
from services.gateway.dispatch.gathering import Gathering
from services.gateway.dispatch.request_queue import RequestQueue
from services.gateway.dispatch.routes import Route
from services.gateway.requests.options import GREEDY
from services.gateway.requests.request import Request, Segment
from steersman.errors import DeadlineExceededError, FailedPreconditionError, InternalError, UnavailableError
from steersman.v1 import replica_pb2
from tests.unit.services.gateway.numbers import NO_LIMITS, ManualLoop
from tests.unit.services.gateway.sums import (
    ALSO_MEMORY,
    ALSO_PLAIN,
    DISGUISED,
    MEMORY,
    PLAIN,
    SAMPLED,
    WIDE,
    SumReplica,
    announce,
    expected,
    request,
    version,
)


class Stage:
    """A dispatcher with everything around it in the hands of the test."""

    def __init__(self, *replicas: SumReplica, limits: Limits = NO_LIMITS) -> None:
        self.loop = ManualLoop()
        self.dispatcher = Dispatcher("sums", limits, self.loop, self.loop.time)
        for replica in replicas:
            self.dispatcher.attach(replica.attachment)
        self.loop.run()

    def submit(self, *entries: Request) -> None:
        for entry in entries:
            entry.statistics = self.dispatcher.statistics
            self.dispatcher.submit(entry)
        self.loop.run()

    def answer(self, replica: SumReplica) -> None:
        message = replica.inbox.pop(0)
        self.dispatcher.answered(replica.attachment, message.id, replica.compute(message))
        self.loop.run()

    def answer_all(self, *replicas: SumReplica) -> None:
        while any(replica.inbox for replica in replicas):
            for replica in replicas:
                if replica.inbox:
                    self.answer(replica)

    def outcomes(self) -> tuple[int, int]:
        """Gives how many requests were answered, and how many failed; there are no others."""
        counted = self.dispatcher.statistics
        assert (counted.cancelled, counted.expired, counted.shed) == (0, 0, 0)
        return counted.answered, counted.failed


def assert_answered(*entries: Request) -> None:
    for entry in entries:
        assert entry.error is None
        assert entry.outputs == expected(entry, entry.version.number)


def assert_gateway_failed(*entries: Request) -> None:
    for entry in entries:
        assert isinstance(entry.error, InternalError)
        assert "but the gateway failed at it" in str(entry.error)


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], int]:
    """Gives how many tracebacks were logged so far."""
    caplog.set_level(logging.ERROR)
    return lambda: sum(record.exc_info is not None for record in caplog.records)


@pytest.mark.parametrize(
    ("number", "carries"),
    [(MEMORY, PLAIN), (WIDE, PLAIN), (PLAIN, WIDE), (DISGUISED, PLAIN), (PLAIN, MEMORY)],
    ids=["no state", "too few bytes", "too many bytes", "a tensor less", "state too many"],
)
def test_a_request_with_another_versions_inputs_fails_alone(
    number: int, carries: int, logged: Callable[[], int]
) -> None:
    replica = SumReplica([number], credit=1)
    stage = Stage(replica)
    first = request(number)
    stage.submit(first)
    before, wrong, after = request(number), request(number, carries=carries), request(number)
    stage.submit(before, wrong, after)
    stage.answer_all(replica)
    assert_answered(first, before, after)
    assert_gateway_failed(wrong)
    assert stage.outcomes() == (3, 1)
    assert logged() == 1
    assert replica.attachment.in_flight == 0
    assert not replica.attachment.is_overdue(1e9, 1.0), "it was never given what could not be written"


def test_a_request_with_another_versions_inputs_that_is_split_fails_all_the_same() -> None:
    replica = SumReplica([PLAIN], credit=1, max_batch_size=2)
    stage = Stage(replica)
    wrong, right = request(PLAIN, 5, carries=WIDE), request(PLAIN, 5)
    stage.submit(wrong, right)
    stage.answer_all(replica)
    assert_gateway_failed(wrong)
    assert_answered(right)
    assert stage.outcomes() == (1, 1)


def test_a_healthy_version_is_not_blamed_for_it(logged: Callable[[], int]) -> None:
    """A version with memory beside one without, and requests that carry no state: the version is fine."""
    replica = SumReplica([PLAIN, MEMORY], credit=1)
    stage = Stage(replica)
    stage.dispatcher.set_route(Route({PLAIN: 9.0, MEMORY: 1.0}), None)
    for _ in range(10):
        wrong = request(MEMORY, carries=PLAIN)
        stage.submit(wrong)
        assert_gateway_failed(wrong)
    assert not stage.dispatcher.given_up
    right = [request(MEMORY), request(PLAIN)]
    stage.submit(*right)
    stage.answer_all(replica)
    assert_answered(*right)
    assert stage.outcomes() == (2, 10)
    assert logged() == 10


def test_a_batch_that_cannot_be_sent_is_sent_again_request_by_request(logged: Callable[[], int]) -> None:
    replica = SumReplica([PLAIN])
    stage = Stage(replica)
    replica.broken_sends = 1
    entries = [request() for _ in range(3)]
    stage.submit(*entries)
    stage.answer_all(replica)
    assert_answered(*entries)
    assert stage.outcomes() == (3, 0)
    assert logged() == 1
    assert stage.dispatcher.statistics.batches == 3, "only what was sent counts"


def test_what_cannot_be_sent_alone_fails_alone() -> None:
    replica = SumReplica([PLAIN])
    stage = Stage(replica)
    replica.broken_sends = 2
    entries = [request() for _ in range(3)]
    stage.submit(*entries)
    stage.answer_all(replica)
    assert_gateway_failed(entries[0])
    assert_answered(*entries[1:])
    assert stage.dispatcher.attachments == [replica.attachment]


def test_what_never_left_is_nobodys_fault(logged: Callable[[], int]) -> None:
    gone, other = SumReplica([PLAIN, ALSO_PLAIN], "gone", credit=1), SumReplica([PLAIN, ALSO_PLAIN], "other", credit=1)
    stage = Stage(gone)
    gone.is_gone = True
    # Nothing has proven yet that the version works.
    entries = [request(ALSO_PLAIN), request(ALSO_PLAIN)]
    stage.submit(*entries)
    assert stage.dispatcher.waiting == 2
    stage.dispatcher.detach(gone.attachment)
    stage.dispatcher.attach(other.attachment)
    stage.loop.run()
    stage.answer_all(other)
    assert_answered(*entries)
    assert [entry.version.number for entry in entries] == [ALSO_PLAIN] * 2
    assert [entry.attempts for entry in entries] == [0, 0]
    assert not stage.dispatcher.given_up
    assert stage.dispatcher.statistics.requeued_batches == 0
    assert logged() == 0


def test_a_message_that_turns_out_too_large_is_not_sent() -> None:
    replica = SumReplica([PLAIN])
    stage = Stage(replica)
    replica.attachment.most_observations(PLAIN, GREEDY)
    replica.attachment.max_message_bytes = 10
    entry = request()
    stage.submit(entry)
    assert not replica.inbox
    assert_gateway_failed(entry)


class BadCaller:
    """Cannot take an answer.

    Attributes:
        told: What it was told of: for each call the error, if there was one.
    """

    def __init__(self, *, not_even_an_error: bool = False) -> None:
        self._not_even_an_error = not_even_an_error
        self.told: list[Exception | None] = []

    def __call__(self, finished: Request) -> None:
        self.told.append(finished.error)
        if finished.error is None or self._not_even_an_error:
            raise ZeroDivisionError("this caller is broken")


@pytest.mark.parametrize("not_even_an_error", [False, True])
def test_a_caller_who_cannot_take_an_answer_is_told_of_the_failure_and_harms_nobody(
    not_even_an_error: bool, logged: Callable[[], int]
) -> None:
    replica = SumReplica([PLAIN])
    stage = Stage(replica)
    caller = BadCaller(not_even_an_error=not_even_an_error)
    before, bad, after = request(), request(on_finished=caller), request()
    stage.submit(before, bad, after)
    stage.answer_all(replica)
    assert_answered(before, after)
    assert_gateway_failed(bad)
    assert caller.told == [None, bad.error]
    assert stage.outcomes() == (2, 1)
    assert logged() == 1 + not_even_an_error
    assert not stage.dispatcher.given_up


def failed_by(end: str, stage: Stage, replica: SumReplica) -> None:
    """Has what waits and what is computed fail in one of several ways."""
    if end == "all":
        stage.dispatcher.fail_all(UnavailableError("undeployed"))
    elif end == "expired":
        stage.loop.advance(2.0)
        stage.dispatcher.expire()
    elif end == "unloaded":
        replica.attachment.announce(announce([WIDE]))
        stage.dispatcher.replica_changed()
    elif end == "model":
        message = replica.inbox.pop(0)
        stage.dispatcher.failed(replica.attachment, message.id, InternalError("the model failed"))
    stage.loop.run()


@pytest.mark.parametrize("end", ["all", "expired", "unloaded", "model"])
def test_who_cannot_be_told_of_a_failure_keeps_nobody_from_it(end: str, logged: Callable[[], int]) -> None:
    replica = SumReplica([PLAIN], credit=1)
    stage = Stage(replica)
    if end != "model":
        stage.submit(request())
    caller = BadCaller(not_even_an_error=True)
    bad, good = request(deadline=1.0, on_finished=caller), request(deadline=1.0)
    stage.submit(bad)
    if end != "model":
        stage.submit(good)
    failed_by(end, stage, replica)
    assert caller.told == [bad.error]
    assert bad.error is not None
    assert logged() == 1
    if end != "model":
        assert type(good.error) is type(bad.error)
    assert stage.dispatcher.waiting == 0
    last = request(WIDE if end == "unloaded" else PLAIN)
    stage.submit(last)
    if end != "unloaded":
        stage.answer_all(replica)
        assert_answered(last)


def test_what_cannot_be_taken_back_is_logged_and_the_request_ends_all_the_same(logged: Callable[[], int]) -> None:
    def break_down() -> None:
        raise ZeroDivisionError("this cannot be taken back")

    failing, abandoned = request(), request()
    for entry in (failing, abandoned):
        entry.on_unanswered = break_down
    failing.fail(UnavailableError("undeployed"), 1.0)
    abandoned.abandon(1.0)
    assert failing.statistics.failed == 1
    assert abandoned.statistics.cancelled == 1
    assert logged() == 2


def test_a_fault_in_one_lane_concerns_no_other(logged: Callable[[], int], monkeypatch: pytest.MonkeyPatch) -> None:
    replica = SumReplica([PLAIN], credit=1)
    stage = Stage(replica)
    stage.submit(request())
    waiting, sampled = request(), request(options=SAMPLED, seed=3)
    stage.submit(waiting, sampled)
    broken, take_well = waiting.queue, RequestQueue.take

    def take(queue: RequestQueue, limit: int, share: int, now: float) -> list[Segment]:
        if queue is broken:
            raise ZeroDivisionError("this lane is broken")
        return take_well(queue, limit, share, now)

    monkeypatch.setattr(RequestQueue, "take", take)
    stage.answer_all(replica)
    assert_gateway_failed(waiting)
    assert_answered(sampled)
    assert logged() == 1
    assert stage.dispatcher.waiting == 0


def test_a_queue_that_cannot_be_looked_through_fails_and_the_others_do_not(
    logged: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage()
    broken, late, patient = request(deadline=1.0), request(options=SAMPLED, deadline=1.0), request(options=SAMPLED)
    stage.submit(broken, late, patient)
    broken_queue, expire_well = broken.queue, RequestQueue.expire

    def expire(queue: RequestQueue, now: float) -> None:
        if queue is broken_queue:
            raise ZeroDivisionError("this queue is broken")
        expire_well(queue, now)

    monkeypatch.setattr(RequestQueue, "expire", expire)
    stage.loop.advance(2.0)
    stage.dispatcher.expire()
    assert_gateway_failed(broken)
    assert isinstance(late.error, DeadlineExceededError)
    assert not patient.finished
    assert logged() == 1


class TroubledGathering:
    """A gathering whose questions or whose dispatching fail for some time."""

    def __init__(self, broken: str) -> None:
        self.loop = ManualLoop()
        self.broken = broken
        self.dispatched = 0
        self.gathering = Gathering(self.loop, lambda: self._ask("wanted"), lambda: self._ask("alone"), self._dispatch)

    def _ask(self, name: str) -> bool:
        if self.broken == name:
            raise ZeroDivisionError("broken")
        return True

    def _dispatch(self) -> None:
        if self.broken == "dispatch":
            self.gathering.notify()
            raise ZeroDivisionError("broken")
        self.dispatched += 1


@pytest.mark.parametrize("broken", ["wanted", "alone", "dispatch"])
def test_a_turn_that_fails_is_not_the_last_one(broken: str, logged: Callable[[], int]) -> None:
    trouble = TroubledGathering(broken)
    trouble.gathering.notify()
    # With "dispatch" it would go on for ever in this turn, as it is told of news each time.
    due, trouble.loop._due = trouble.loop._due, []
    for callback in due:
        callback()
    assert logged() == 1
    trouble.broken = ""
    trouble.loop.advance(1.0)
    assert trouble.dispatched >= 1, "it tried again by itself"
    dispatched = trouble.dispatched
    trouble.gathering.notify()
    trouble.loop.run()
    assert trouble.dispatched == dispatched + 1, "and each piece of news is dispatched once"


def test_a_result_that_cannot_be_taken_in_fails_its_batch_only(
    logged: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = SumReplica([PLAIN, ALSO_PLAIN])
    stage = Stage(replica)
    entries = [request(), request()]
    stage.submit(*entries)

    def break_down(*_: object) -> None:
        raise ZeroDivisionError("nobody thought of this")

    with monkeypatch.context() as broken:
        broken.setattr("services.gateway.requests.batch.Batch.answer", break_down)
        stage.answer(replica)
    assert_gateway_failed(*entries)
    assert logged() == 1
    assert not stage.dispatcher.given_up
    later = request()
    stage.submit(later)
    stage.answer_all(replica)
    assert_answered(later)
    assert stage.outcomes() == (1, 2)


def test_a_replica_that_cannot_be_taken_in_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    stage, replica = Stage(), SumReplica([PLAIN])

    def break_down(*_: object) -> None:
        raise ZeroDivisionError("nobody thought of this")

    with monkeypatch.context() as broken:
        broken.setattr("services.gateway.dispatch.traffic.Traffic.set_loaded", break_down)
        with pytest.raises(ZeroDivisionError):
            stage.dispatcher.attach(replica.attachment)
    assert stage.dispatcher.attachments == []
    good = SumReplica([PLAIN])
    stage.dispatcher.attach(good.attachment)
    entry = request()
    stage.submit(entry)
    stage.answer_all(good)
    assert_answered(entry)
    assert not replica.inbox


def test_a_replica_that_keeps_refusing_a_version_that_it_has_announced_is_not_asked_for_ever() -> None:
    replica = SumReplica([PLAIN])
    stage = Stage(replica)
    entry, pinned = request(), request(pinned=True)
    stage.submit(entry, pinned)
    for _ in range(10):
        if replica.inbox:
            message = replica.inbox.pop(0)
            error = UnavailableError("expected one of versions [2], got 1")
            stage.dispatcher.failed(replica.attachment, message.id, error)
            stage.loop.run()
    assert isinstance(entry.error, UnavailableError)
    assert isinstance(pinned.error, UnavailableError)
    assert not stage.dispatcher.given_up


@pytest.mark.parametrize(
    ("first", "second"),
    [(MEMORY, DISGUISED), (ALSO_MEMORY, DISGUISED), (DISGUISED, ALSO_MEMORY), (PLAIN, MEMORY), (PLAIN, WIDE)],
)
def test_versions_that_differ_in_anything_do_not_take_each_others_requests(first: int, second: int) -> None:
    assert not version(first).takes_the_same_as(version(second))
    replica = SumReplica([first], credit=1)
    stage = Stage(replica)
    stage.submit(request(first))
    waiting = request(first)
    stage.submit(waiting)
    replica.attachment.announce(announce([second], credit=1))
    stage.dispatcher.replica_changed()
    assert isinstance(waiting.error, FailedPreconditionError if version(first).state else UnavailableError)
    assert waiting.version.number == first


@pytest.mark.parametrize("first", [PLAIN, MEMORY])
def test_a_version_that_is_loaded_anew_with_other_input_never_gets_the_old_input(first: int) -> None:
    replica = SumReplica([first], credit=1)
    stage = Stage(replica)
    stage.submit(request(first))
    waiting = request(first)
    stage.submit(waiting)
    changed = announce([WIDE], credit=1)
    changed.versions[0].version = first
    replica.attachment.announce(changed)
    stage.dispatcher.replica_changed()
    assert isinstance(waiting.error, UnavailableError if first == PLAIN else FailedPreconditionError)
    assert "was loaded anew" in str(waiting.error)


def test_while_replicas_disagree_on_what_a_version_takes_only_one_kind_gets_it() -> None:
    old, new = SumReplica([PLAIN], "old"), SumReplica([PLAIN], "new")
    changed = announce([WIDE], replica_id="new")
    changed.versions[0].version = PLAIN
    new.attachment.announce(changed)
    stage = Stage(old, new)
    entries = [request(WIDE) for _ in range(3)]
    for entry in entries:
        entry.version = new.attachment.versions[PLAIN]
    stage.submit(*entries)
    assert not old.inbox
    (batch,) = new.inbox
    assert list(batch.inputs["observation"].shape) == [3, 3]


def test_an_answer_that_is_none_is_the_versions_own_fault() -> None:
    replica = SumReplica([PLAIN])
    stage = Stage(replica)
    entry = request()
    stage.submit(entry)
    stage.dispatcher.answered(replica.attachment, replica.inbox.pop().id, replica_pb2.BatchAnswer())
    assert isinstance(entry.error, InternalError)
    assert "from the replica" in str(entry.error)
