import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.gateway.batch import Batch
from services.gateway.dispatcher import MAX_ATTEMPTS, Dispatcher
from services.gateway.requests import Request
from steersman.errors import InternalError, NotFoundError, SteersmanError, UnavailableError
from steersman.v1 import replica_pb2
from tests.unit.services.gateway.numbers import NumberReplica, Soon, announce, request


class Stage:
    """A dispatcher with everything around it in the hands of the test."""

    def __init__(self, *replicas: NumberReplica) -> None:
        self.soon = Soon()
        self.dispatcher = Dispatcher("numbers", self.soon)
        self.finished: list[Request] = []
        for replica in replicas:
            self.dispatcher.attach(replica.attachment)
        self.soon.run()

    def submit(self, *sizes: int, pinned: bool = False, version: int = 1) -> list[Request]:
        requests = [request(size, version, pinned) for size in sizes]
        for entry in requests:
            entry.on_finished = self.finished.append
            self.dispatcher.submit(entry)
        self.soon.run()
        return requests

    def answer(self, replica: NumberReplica, index: int = 0) -> None:
        message = replica.inbox.pop(index)
        answer = replica.compute(message)
        self.dispatcher.answer(replica.attachment, message.id, lambda batch: batch.answer(answer))
        self.soon.run()

    def fail(self, replica: NumberReplica, error: SteersmanError, index: int = 0) -> None:
        def outcome(_: Batch) -> None:
            raise error

        self.dispatcher.answer(replica.attachment, replica.inbox.pop(index).id, outcome)
        self.soon.run()

    def lose(self, replica: NumberReplica) -> None:
        replica.inbox.clear()
        self.dispatcher.detach(replica.attachment)
        self.soon.run()


def sizes(replica: NumberReplica) -> list[int]:
    return [batch.observation["observation"].shape[0] for batch in replica.inbox]


def assert_answered(entry: Request) -> None:
    assert entry.error is None
    assert entry.action == entry.observation.data


def test_a_lone_request_does_not_wait_for_company() -> None:
    replica = NumberReplica()
    stage = Stage(replica)
    (entry,) = stage.submit(1)
    assert sizes(replica) == [1]
    stage.answer(replica)
    assert_answered(entry)


def test_what_queued_while_the_replica_was_busy_is_the_next_batch() -> None:
    replica = NumberReplica(credit=1)
    stage = Stage(replica)
    requests = stage.submit(1) + stage.submit(1, 1) + stage.submit(1)
    assert sizes(replica) == [1]
    stage.answer(replica)
    assert sizes(replica) == [3]
    stage.answer(replica)
    for entry in requests:
        assert_answered(entry)


def test_idle_replicas_share_what_waits() -> None:
    replicas = [NumberReplica(f"replica-{index}") for index in range(3)]
    stage = Stage(*replicas)
    stage.submit(*[1] * 7)
    assert [sizes(replica) for replica in replicas] == [[3], [2], [2]]


def test_an_idle_replica_is_preferred_to_a_busy_one() -> None:
    busy, idle = NumberReplica("busy"), NumberReplica("idle")
    stage = Stage(busy)
    stage.submit(1)
    stage.dispatcher.attach(idle.attachment)
    stage.submit(1)
    assert [sizes(busy), sizes(idle)] == [[1], [1]]


def test_a_request_larger_than_a_batch_is_split_and_joined_in_order() -> None:
    first, second = NumberReplica("first"), NumberReplica("second")
    stage = Stage(first, second)
    (entry,) = stage.submit(29)
    assert [sizes(first), sizes(second)] == [[8, 8], [8, 5]]
    # The later part is answered first.
    for replica in (second, first):
        while replica.inbox:
            stage.answer(replica, index=-1)
    assert stage.finished == [entry]
    assert_answered(entry)


def test_abandoned_requests_cost_no_compute() -> None:
    replica = NumberReplica(credit=1)
    stage = Stage(replica)
    stage.submit(1)
    abandoned, kept = stage.submit(1, 1)
    abandoned.abandon()
    stage.answer(replica)
    assert sizes(replica) == [1]
    stage.answer(replica)
    assert_answered(kept)
    assert abandoned not in stage.finished


def test_a_lost_replica_loses_nothing() -> None:
    lost, other = NumberReplica("lost"), NumberReplica("other", credit=1)
    stage = Stage(lost)
    early = stage.submit(1, 1)
    late = stage.submit(1)
    stage.dispatcher.attach(other.attachment)
    stage.submit(1)  # keeps the other one busy
    stage.lose(lost)
    later = stage.submit(1)
    stage.answer(other)
    assert sizes(other) == [4]
    stage.answer(other)
    assert stage.finished[1:] == early + late + later, "first come, first served, also after a loss"
    for entry in stage.finished:
        assert_answered(entry)


def test_a_poisonous_request_fails_alone() -> None:
    stage = Stage(NumberReplica("replica-0", credit=1))
    poison, bystander = stage.submit(1, 1)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        assert not poison.finished
        replica = NumberReplica(f"replica-{attempt}", credit=1)
        (attachment,) = stage.dispatcher.attachments
        stage.dispatcher.detach(attachment)
        stage.dispatcher.attach(replica.attachment)
        stage.soon.run()
    assert isinstance(poison.error, InternalError)
    assert sizes(replica) == [1]
    stage.answer(replica)
    assert_answered(bystander)


def test_an_error_is_isolated_to_the_request_that_causes_it() -> None:
    replica = NumberReplica(credit=1)
    stage = Stage(replica)
    requests = stage.submit(1, 1, 1)
    stage.fail(replica, InternalError("the model failed"))
    assert sizes(replica) == [1], "now each of them alone"
    stage.answer(replica)
    stage.fail(replica, InternalError("the model failed"))
    stage.answer(replica)
    assert [entry.error is None for entry in requests] == [True, False, True]
    assert str(requests[1].error) == "the model failed"


def test_an_answer_of_the_wrong_size_fails_the_request_and_nothing_else() -> None:
    replica = NumberReplica()
    stage = Stage(replica)
    (entry,) = stage.submit(1)
    answer = replica_pb2.BatchAnswer()
    stage.dispatcher.answer(replica.attachment, replica.inbox.pop().id, lambda batch: batch.answer(answer))
    assert isinstance(entry.error, InternalError)


def test_requests_follow_the_traffic_when_their_version_goes() -> None:
    replica = NumberReplica(versions=(1,), credit=1)
    stage = Stage(replica)
    stage.submit(1)
    (floating,) = stage.submit(1)
    (pinned,) = stage.submit(1, pinned=True)
    replica.attachment.announce(announce("replica", [2], 1, 8))
    stage.dispatcher.replica_changed()
    stage.answer(replica)
    assert isinstance(pinned.error, NotFoundError)
    assert [batch.version for batch in replica.inbox] == [2]
    stage.answer(replica)
    assert_answered(floating)
    assert floating.version.number == 2


def test_a_batch_that_crossed_an_unload_goes_to_the_next_version() -> None:
    replica = NumberReplica(versions=(1,))
    stage = Stage(replica)
    (entry,) = stage.submit(1)
    replica.attachment.announce(announce("replica", [2], 2, 8))
    stage.dispatcher.replica_changed()
    stage.fail(replica, UnavailableError("expected one of versions [2], got 1"))
    stage.answer(replica)
    assert_answered(entry)
    assert entry.version.number == 2


def test_a_leaving_replica_gets_nothing_new() -> None:
    replica = NumberReplica()
    stage = Stage(replica)
    (entry,) = stage.submit(1)
    replica.attachment.leaving = True
    stage.dispatcher.replica_changed()
    stage.submit(1)
    assert sizes(replica) == [1]
    stage.answer(replica)
    assert_answered(entry)


def test_what_waits_can_be_failed_as_a_whole() -> None:
    stage = Stage(NumberReplica(credit=1))
    _, waiting = *stage.submit(1), *stage.submit(1)
    stage.dispatcher.fail_all(UnavailableError("undeployed"))
    assert str(waiting.error) == "undeployed"
    assert stage.dispatcher.waiting == 0


class AnyInterleaving(RuleBasedStateMachine):
    """Requests, answers, failures, cancellations, deaths and version changes in every order that hypothesis finds."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = Stage()
        self.replicas: list[NumberReplica] = []
        self.requests: list[Request] = []
        self.names = 0

    @rule(versions=st.sets(st.integers(1, 2)), credit=st.integers(1, 3), max_batch_size=st.integers(1, 5))
    @precondition(lambda self: len(self.replicas) < 4)
    def attach(self, versions: set[int], credit: int, max_batch_size: int) -> None:
        self.names += 1
        replica = NumberReplica(f"replica-{self.names}", tuple(versions), credit, max_batch_size)
        self.replicas.append(replica)
        self.stage.dispatcher.attach(replica.attachment)

    @rule(size=st.integers(1, 12), pinned=st.booleans())
    @precondition(lambda self: self.stage.dispatcher.default_version is not None)
    def submit(self, size: int, pinned: bool) -> None:
        version = self.stage.dispatcher.default_version
        assert version is not None
        entry = request(size, version.number, pinned)
        entry.on_finished = self.stage.finished.append
        self.requests.append(entry)
        self.stage.dispatcher.submit(entry)

    @rule(index=st.integers(0, 100))
    @precondition(lambda self: self.requests)
    def abandon(self, index: int) -> None:
        self.requests[index % len(self.requests)].abandon()

    @rule()
    def let_time_pass(self) -> None:
        self.stage.soon.run()

    def _pick(self, index: int) -> NumberReplica | None:
        busy = [replica for replica in self.replicas if replica.inbox]
        return busy[index % len(busy)] if busy else None

    @rule(index=st.integers(0, 100), batch=st.integers(0, 100))
    def answer(self, index: int, batch: int) -> None:
        if replica := self._pick(index):
            self.stage.answer(replica, batch % len(replica.inbox))

    @rule(index=st.integers(0, 100), batch=st.integers(0, 100))
    def fail(self, index: int, batch: int) -> None:
        if replica := self._pick(index):
            self.stage.fail(replica, InternalError("the model failed"), batch % len(replica.inbox))

    @rule(index=st.integers(0, 100))
    @precondition(lambda self: self.replicas)
    def lose(self, index: int) -> None:
        self.stage.lose(self.replicas.pop(index % len(self.replicas)))

    @rule(index=st.integers(0, 100), versions=st.sets(st.integers(1, 2)))
    @precondition(lambda self: self.replicas)
    def change_versions(self, index: int, versions: set[int]) -> None:
        replica = self.replicas[index % len(self.replicas)]
        replica.attachment.announce(announce(replica.attachment.replica_id, sorted(versions), 2, 4))
        self.stage.dispatcher.replica_changed()

    @invariant()
    def every_answer_is_right_and_given_once(self) -> None:
        assert len(set(map(id, self.stage.finished))) == len(self.stage.finished)
        for entry in self.stage.finished:
            if entry.error is None:
                assert_answered(entry)

    @invariant()
    def batches_keep_to_the_limits(self) -> None:
        for replica in self.replicas:
            assert all(size <= 5 for size in sizes(replica))
            assert len(replica.inbox) == replica.attachment.in_flight

    def teardown(self) -> None:
        """In the end, with a good replica, everybody who still waits gets an answer."""
        for replica in list(self.replicas):
            self.stage.lose(replica)
        good = NumberReplica("good", (1, 2))
        self.stage.dispatcher.attach(good.attachment)
        self.stage.soon.run()
        while good.inbox:
            self.stage.answer(good)
        assert all(entry.finished for entry in self.requests)
        self.every_answer_is_right_and_given_once()
        assert self.stage.dispatcher.waiting == 0


TestAnyInterleaving = AnyInterleaving.TestCase
TestAnyInterleaving.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_a_result_for_a_batch_that_nobody_sent_is_refused() -> None:
    replica = NumberReplica()
    stage = Stage(replica)
    with pytest.raises(ValueError, match="batch in flight"):
        stage.dispatcher.answer(replica.attachment, 77, print)
