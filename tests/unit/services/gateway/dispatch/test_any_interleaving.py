"""Whatever happens to requests, replicas and versions, in whatever order: every request ends once, and rightly."""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.gateway.dispatch.admission import Limits
from services.gateway.dispatch.attachment import AttachmentState
from services.gateway.dispatch.dispatcher import Dispatcher
from services.gateway.dispatch.routes import Route
from services.gateway.requests.request import Request
from steersman.errors import DeadlineExceededError, InternalError, ResourceExhaustedError, UnavailableError
from tests.unit.services.gateway.numbers import ManualLoop
from tests.unit.services.gateway.sums import (
    ALSO_PLAIN,
    DISGUISED,
    MAX_MESSAGE_BYTES,
    MEMORY,
    OPTIONS,
    PLAIN,
    WIDE,
    SumReplica,
    announce,
    expected,
    request,
)

VERSIONS = st.sets(st.integers(PLAIN, DISGUISED), max_size=4).map(sorted)
MESSAGE_BYTES = st.sampled_from([0, 150, 200, 330, 4000])
"""What replicas and gateway take: nothing at all of some versions, few observations of others, all that there are."""

WRONG_INPUTS = {PLAIN: MEMORY, ALSO_PLAIN: WIDE}
"""By version: another one whose inputs it does not take. Of those that are missing, the plain version."""

LIMITS = Limits(observations=60, size_bytes=2000, pushback_milliseconds=50)
GATEWAY_FAILED = "but the gateway failed at it"


class Caller:
    """Who waits for a request, and fails to take its answer if it is a bad one.

    Attributes:
        calls: For each call the error that it brought, if it did.
    """

    def __init__(self, is_bad: bool) -> None:
        self._is_bad = is_bad
        self.calls: list[Exception | None] = []

    def __call__(self, finished: Request) -> None:
        self.calls.append(finished.error)
        if self._is_bad:
            raise ZeroDivisionError("this caller cannot take its answer")


class AnyInterleaving(RuleBasedStateMachine):
    """Drives a dispatcher by hand, with versions of every kind, faults of its own included."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = ManualLoop()
        self.dispatcher = Dispatcher("sums", LIMITS, self.loop, self.loop.time)
        self.replicas: list[SumReplica] = []
        self.requests: list[Request] = []
        self.callers: dict[Request, Caller] = {}
        self.asked: dict[Request, int] = {}
        self.faulty: set[Request] = set()
        self.attached = 0
        self.blamed: set[int] = set()
        self.was_send_broken = False

    @rule(
        versions=VERSIONS,
        credit=st.integers(1, 3),
        max_batch_size=st.integers(1, 12),
        max_message_bytes=MESSAGE_BYTES,
        max_answer_bytes=MESSAGE_BYTES.map(lambda size: size or MAX_MESSAGE_BYTES),
    )
    @precondition(lambda self: len(self.replicas) < 4)
    def attach(
        self, versions: list[int], credit: int, max_batch_size: int, max_message_bytes: int, max_answer_bytes: int
    ) -> None:
        self.attached += 1
        name = f"replica-{self.attached}"
        replica = SumReplica(versions, name, credit, max_batch_size, max_message_bytes, max_answer_bytes)
        self.replicas.append(replica)
        self.dispatcher.attach(replica.attachment)

    @rule(
        data=st.data(),
        size=st.integers(1, 12),
        pinned=st.booleans(),
        interactive=st.booleans(),
        seconds=st.sampled_from([1.0, 1e9]),
        fault=st.sampled_from(["none", "none", "none", "caller", "inputs"]),
    )
    @precondition(lambda self: self.dispatcher.versions)
    def submit(
        self, data: st.DataObject, size: int, pinned: bool, interactive: bool, seconds: float, fault: str
    ) -> None:
        number = data.draw(st.sampled_from(sorted(self.dispatcher.versions)))
        carries = WRONG_INPUTS.get(number, PLAIN) if fault == "inputs" else number
        caller = Caller(is_bad=fault == "caller")
        entry = request(
            number,
            size,
            carries=carries,
            statistics=self.dispatcher.statistics,
            pinned=pinned,
            options=data.draw(st.sampled_from(OPTIONS[number])),
            seed=data.draw(st.integers(1, 9)),
            interactive=interactive,
            deadline=self.loop.now + seconds,
            on_finished=caller,
        )
        try:
            self.dispatcher.submit(entry)
        except ResourceExhaustedError:
            # Refused at once; whoever submits counts that.
            return
        self.requests.append(entry)
        self.callers[entry] = caller
        self.asked[entry] = number
        if fault == "caller" or (fault == "inputs" and carries != number):
            self.faulty.add(entry)

    @rule(index=st.integers(0, 100))
    @precondition(lambda self: self.requests)
    def abandon(self, index: int) -> None:
        self.requests[index % len(self.requests)].abandon(self.loop.now)

    @rule()
    def let_the_loop_turn(self) -> None:
        self.loop.run()

    @rule(seconds=st.sampled_from([0.2, 2.0]))
    def let_time_pass(self, seconds: float) -> None:
        self.loop.advance(seconds)
        self.dispatcher.expire()

    @rule(index=st.integers(0, 100))
    @precondition(lambda self: self.replicas)
    def break_sends(self, index: int) -> None:
        self.replicas[index % len(self.replicas)].broken_sends = 1
        self.was_send_broken = True

    def _busy(self, index: int) -> SumReplica | None:
        busy = [replica for replica in self.replicas if replica.inbox]
        return busy[index % len(busy)] if busy else None

    @rule(index=st.integers(0, 100), batch=st.integers(0, 100))
    def answer(self, index: int, batch: int) -> None:
        if replica := self._busy(index):
            message = replica.inbox.pop(batch % len(replica.inbox))
            self.dispatcher.answered(replica.attachment, message.id, replica.compute(message))

    @rule(
        index=st.integers(0, 100),
        batch=st.integers(0, 100),
        error=st.sampled_from([InternalError("the model failed"), DeadlineExceededError("late"), UnavailableError("")]),
    )
    def fail(self, index: int, batch: int, error: InternalError | DeadlineExceededError | UnavailableError) -> None:
        if replica := self._busy(index):
            message = replica.inbox.pop(batch % len(replica.inbox))
            self.blamed.add(message.version)
            self.dispatcher.failed(replica.attachment, message.id, error)

    @rule(index=st.integers(0, 100))
    @precondition(lambda self: self.replicas)
    def hang_up_unnoticed(self, index: int) -> None:
        self.replicas[index % len(self.replicas)].is_gone = True

    @rule(index=st.integers(0, 100))
    @precondition(lambda self: self.replicas)
    def lose(self, index: int) -> None:
        self._lose(self.replicas[index % len(self.replicas)])

    def _lose(self, replica: SumReplica) -> None:
        self.replicas.remove(replica)
        self.blamed |= {batch.version for batch in replica.inbox}
        self.dispatcher.detach(replica.attachment)

    @rule(index=st.integers(0, 100))
    @precondition(lambda self: self.replicas)
    def pause_or_resume(self, index: int) -> None:
        replica = self.replicas[index % len(self.replicas)]
        if replica.attachment.state is AttachmentState.LOST:
            return
        if replica.attachment.state is AttachmentState.CLOGGED:
            replica.attachment.resume()
            self.dispatcher.replica_resumed()
        else:
            replica.attachment.pause()

    @rule(index=st.integers(0, 100))
    @precondition(lambda self: self.replicas)
    def leave(self, index: int) -> None:
        attachment = self.replicas[index % len(self.replicas)].attachment
        if attachment.state is not AttachmentState.LOST:
            attachment.leave()
            self.dispatcher.replica_changed()

    @rule(index=st.integers(0, 100), versions=VERSIONS, max_message_bytes=MESSAGE_BYTES)
    @precondition(lambda self: self.replicas)
    def change_versions(self, index: int, versions: list[int], max_message_bytes: int) -> None:
        replica = self.replicas[index % len(self.replicas)]
        replica.largest = 0
        name = replica.attachment.replica_id
        replica.attachment.announce(
            announce(versions, replica_id=name, max_batch_size=4, max_message_bytes=max_message_bytes)
        )
        self.dispatcher.replica_changed()

    @rule(weights=st.dictionaries(st.integers(PLAIN, DISGUISED), st.just(1.0), min_size=1, max_size=3))
    def change_route(self, weights: dict[int, float]) -> None:
        self.dispatcher.set_route(Route(weights), None, self.attached)

    @invariant()
    def every_request_ends_once_and_is_counted_once(self) -> None:
        for entry, caller in self.callers.items():
            told = list(caller.calls)
            if entry in self.faulty and told[:1] == [None]:
                # It could not take its answer, so it was told that its request has failed.
                told.pop(0)
                assert isinstance(entry.error, InternalError)
            assert len(told) <= 1
            if told:
                assert entry.finished
                assert told == [entry.error]
        finished = sum(entry.finished for entry in self.requests)
        counted = self.dispatcher.statistics
        outcomes = (counted.answered, counted.failed, counted.cancelled, counted.expired, counted.shed)
        assert sum(outcomes) == finished
        by_version = counted.by_version.values()
        assert sum(entry.answered.count for entry in by_version) == counted.answered
        assert sum(entry.failed.count for entry in by_version) == finished - counted.answered

    @invariant()
    def every_answer_is_right(self) -> None:
        for entry in self.requests:
            if entry.outputs:
                assert entry.error is None
                assert entry.outputs == expected(entry, self.asked[entry])

    @invariant()
    def only_what_is_concerned_by_a_fault_fails_for_it(self) -> None:
        for entry in self.requests:
            if entry not in self.faulty and not self.was_send_broken:
                assert GATEWAY_FAILED not in str(entry.error)
        assert set(self.dispatcher.given_up) <= self.blamed, "a version is given up only for faults of its own"

    @invariant()
    def messages_keep_to_the_limits(self) -> None:
        for replica in self.replicas:
            attachment = replica.attachment
            assert replica.largest <= attachment.max_message_bytes
            assert replica.largest_answer <= attachment.max_answer_bytes
            assert all(len(batch.inputs) for batch in replica.inbox)
            assert len(replica.inbox) == attachment.in_flight

    @invariant()
    def what_waits_is_what_is_neither_computed_nor_done(self) -> None:
        computed = Counter[Request]()
        for replica in self.replicas:
            for batch in replica.attachment._batches.values():
                for segment in batch.segments:
                    computed[segment.request] += segment.size
        left = [entry for entry in self.requests if not entry.finished]
        assert self.dispatcher.waiting == sum(entry.size - entry._answered - computed[entry] for entry in left)
        assert self.dispatcher.waiting == sum(entry.waiting for entry in self.requests)
        waiting = self.dispatcher._lanes.waiting
        assert waiting.size_bytes == sum(entry.waiting * entry.version.row_bytes for entry in left)
        assert waiting.sheddable == sum(entry.waiting for entry in left if not entry.interactive)

    def teardown(self) -> None:
        """In the end, with a good replica, everybody who still waits gets an answer or is told why not."""
        for replica in list(self.replicas):
            self._lose(replica)
        good = SumReplica(list(OPTIONS), "good")
        self.replicas.append(good)
        self.dispatcher.attach(good.attachment)
        self.loop.advance(1.0)
        while good.inbox:
            message = good.inbox.pop(0)
            self.dispatcher.answered(good.attachment, message.id, good.compute(message))
            self.loop.run()
        assert all(entry.finished for entry in self.requests)
        self.every_request_ends_once_and_is_counted_once()
        self.every_answer_is_right()
        assert self.dispatcher.waiting == 0


TestAnyInterleaving = AnyInterleaving.TestCase
TestAnyInterleaving.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
