import pytest

from services.gateway.dispatch.admission import Limits
from services.gateway.dispatch.dispatcher import MAX_ATTEMPTS, Dispatcher
from services.gateway.dispatch.probation import MAX_FAILURES
from services.gateway.dispatch.routes import Route
from services.gateway.requests.options import Options
from services.gateway.requests.request import Request
from steersman.errors import (
    DeadlineExceededError,
    InternalError,
    NotFoundError,
    ResourceExhaustedError,
    SteersmanError,
    UnavailableError,
)
from steersman.v1 import replica_pb2
from tests.unit.services.gateway.numbers import NO_LIMITS, ManualLoop, NumberReplica, announce, request


class Stage:
    """A dispatcher with everything around it in the hands of the test."""

    def __init__(self, *replicas: NumberReplica, limits: Limits = NO_LIMITS) -> None:
        self.loop = ManualLoop()
        self.dispatcher = Dispatcher("numbers", limits, self.loop, self.loop.time)
        self.finished: list[Request] = []
        for replica in replicas:
            self.dispatcher.attach(replica.attachment)
        self.loop.run()

    def submit(self, *sizes: int, pinned: bool = False, version: int = 1) -> list[Request]:
        requests = [request(size, version, pinned) for size in sizes]
        for entry in requests:
            entry.on_finished = self.finished.append
            self.dispatcher.submit(entry)
        self.loop.run()
        return requests

    def answer(self, replica: NumberReplica, index: int = 0) -> None:
        message = replica.inbox.pop(index)
        answer = replica.compute(message)
        self.dispatcher.answered(replica.attachment, message.id, answer)
        self.loop.run()

    def fail(self, replica: NumberReplica, error: SteersmanError, index: int = 0) -> None:
        self.dispatcher.failed(replica.attachment, replica.inbox.pop(index).id, error)
        self.loop.run()

    def lose(self, replica: NumberReplica) -> None:
        replica.inbox.clear()
        self.dispatcher.detach(replica.attachment)
        self.loop.run()


def sizes(replica: NumberReplica) -> list[int]:
    return [batch.inputs["observation"].shape[0] for batch in replica.inbox]


def assert_answered(entry: Request) -> None:
    assert entry.error is None
    assert entry.outputs == entry.inputs


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
    assert [sizes(first), sizes(second)] == [[8, 8], [8]], "the rest is less than what the second has in hand"
    # The later parts are answered first.
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
    abandoned.abandon(0.0)
    stage.answer(replica)
    assert sizes(replica) == [1]
    stage.answer(replica)
    assert_answered(kept)
    assert abandoned not in stage.finished


def test_a_lost_replica_loses_nothing() -> None:
    lost, other = NumberReplica("lost"), NumberReplica("other", credit=1)
    stage = Stage(lost)
    early = stage.submit(1, 1)
    stage.dispatcher.attach(other.attachment)
    stage.submit(1)  # keeps the other one busy
    late = stage.submit(1)
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
        stage.loop.run()
    assert isinstance(poison.error, InternalError)
    assert sizes(replica) == [1]
    stage.answer(replica)
    assert_answered(bystander)


def test_a_poisonous_request_takes_no_neighbour_with_it_whatever_batch_that_is_in() -> None:
    stage = Stage(NumberReplica("replica-0"))
    poison, *bystanders = stage.submit(1) + stage.submit(1, 1) + stage.submit(1)
    other_options = request(options=Options(sample=True, extras=()))
    stage.dispatcher.submit(other_options)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        replica = NumberReplica(f"replica-{attempt}")
        (attachment,) = stage.dispatcher.attachments
        stage.dispatcher.detach(attachment)
        stage.dispatcher.attach(replica.attachment)
        stage.loop.run()
    assert isinstance(poison.error, InternalError)
    while replica.inbox:
        stage.answer(replica)
    for entry in (*bystanders, other_options):
        assert_answered(entry)


def test_an_isolated_request_is_known_to_be_next_when_the_one_before_it_is_given_up() -> None:
    replica = NumberReplica()
    stage = Stage(replica)
    first, second = stage.submit(1, 1)
    stage.submit(8)
    stage.fail(replica, InternalError("the model failed"))
    assert sizes(replica) == [8]
    first.abandon(0.0)
    stage.submit(8)
    assert sizes(replica) == [8], "the isolated one is next, and waits for a replica that holds nothing"
    stage.answer(replica)
    assert sizes(replica) == [1]
    stage.answer(replica)
    assert_answered(second)


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
    stage.dispatcher.answered(replica.attachment, replica.inbox.pop().id, answer)
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


def test_a_busy_replica_gets_its_next_batch_ahead_of_time_once_that_is_worth_the_trip() -> None:
    replica = NumberReplica(credit=2)
    stage = Stage(replica)
    stage.submit(1, 1, 1)
    stage.submit(1, 1)
    assert sizes(replica) == [3]
    stage.submit(1)
    assert sizes(replica) == [3, 3]
    stage.submit(*[1] * 8)
    assert sizes(replica) == [3, 3], "no credit is left"


def test_interactive_requests_go_first() -> None:
    replica = NumberReplica(credit=1, max_batch_size=2)
    stage = Stage(replica)
    stage.submit(1)
    patient = [request(interactive=False) for _ in range(2)]
    for entry in patient:
        stage.dispatcher.submit(entry)
    urgent = stage.submit(1, 1)
    stage.answer(replica)
    stage.answer(replica)
    assert [entry.finished for entry in urgent + patient] == [True, True, False, False]


def test_requests_with_other_options_do_not_share_a_batch_and_none_starves() -> None:
    replica = NumberReplica(credit=1)
    stage = Stage(replica)
    stage.submit(1)
    sampled = request(options=Options(sample=True, extras=()))
    sampled.seed = 77
    stage.dispatcher.submit(sampled)
    stage.loop.advance(1)
    later = request()
    later.arrived = 1.0
    stage.dispatcher.submit(later)
    stage.answer(replica)
    assert [(batch.options.sample, batch.seeds[0].seed) for batch in replica.inbox] == [(True, 77)]
    stage.answer(replica)
    assert sizes(replica) == [1]
    assert not replica.inbox[0].HasField("options")


def test_a_batch_tells_what_still_waits_and_how_long_its_first_observation_has() -> None:
    replica = NumberReplica(credit=1, max_batch_size=4)
    stage = Stage(replica)
    stage.submit(1)
    stage.submit(3)
    stage.submit(2)
    stage.dispatcher.submit(request(4, interactive=False))
    told = []
    for _ in range(4):
        (batch,) = replica.inbox
        told.append((batch.queue_depth, batch.queue_delay_microseconds))
        stage.loop.advance(0.25)
        stage.answer(replica)
    assert told == [(0, 0), (6, 250_000), (4, 500_000), (0, 0)], "nobody waits for the last one"


def test_a_full_queue_refuses_with_a_time_to_come_back() -> None:
    stage = Stage(NumberReplica(credit=1), limits=Limits(observations=3, size_bytes=10**6, pushback_milliseconds=70))
    stage.submit(1)
    stage.submit(3)
    with pytest.raises(ResourceExhaustedError, match="expected room for 1 observations") as refused:
        stage.submit(1)
    assert refused.value.pushback_milliseconds == 70


def test_bytes_count_as_well() -> None:
    stage = Stage(NumberReplica(credit=1), limits=Limits(observations=100, size_bytes=16, pushback_milliseconds=70))
    stage.submit(1)
    stage.submit(1, 1)
    with pytest.raises(ResourceExhaustedError):
        stage.submit(1)


def test_what_nobody_waits_for_is_shed_first_and_the_latest_of_it() -> None:
    limits = Limits(observations=3, size_bytes=10**6, pushback_milliseconds=50)
    stage = Stage(NumberReplica(credit=1), limits=limits)
    stage.submit(1)
    patient = [request(interactive=False) for _ in range(3)]
    for entry in patient:
        stage.dispatcher.submit(entry)
    stage.submit(1, 1)
    assert [entry.error is not None for entry in patient] == [False, True, True]
    with pytest.raises(ResourceExhaustedError):
        stage.dispatcher.submit(request(interactive=False))


def test_a_request_larger_than_the_queue_is_taken_when_nothing_waits() -> None:
    stage = Stage(limits=Limits(observations=3, size_bytes=10**6, pushback_milliseconds=50))
    stage.submit(10)


def test_expired_requests_cost_no_compute() -> None:
    replica = NumberReplica(credit=1)
    stage = Stage(replica)
    stage.submit(1)
    expiring, patient = request(deadline=1.0), request(deadline=9.0)
    stage.dispatcher.submit(expiring)
    stage.dispatcher.submit(patient)
    stage.loop.advance(2.0)
    stage.answer(replica)
    assert sizes(replica) == [1]
    assert isinstance(expiring.error, DeadlineExceededError)
    assert replica.inbox[0].timeout_microseconds == 7_000_000


def test_what_waits_for_nobody_expires_too() -> None:
    stage = Stage()
    entry = request(deadline=1.0)
    stage.dispatcher.submit(entry)
    stage.loop.advance(2.0)
    stage.dispatcher.expire()
    assert isinstance(entry.error, DeadlineExceededError)


def test_a_batch_that_the_replica_found_expired_is_not_tried_again() -> None:
    replica = NumberReplica()
    stage = Stage(replica)
    requests = stage.submit(1, 1)
    stage.fail(replica, DeadlineExceededError("too late"))
    assert all(isinstance(entry.error, DeadlineExceededError) for entry in requests)
    assert replica.inbox == []


def test_a_queue_delay_gathers_company_and_ends() -> None:
    replica = NumberReplica()
    replica.attachment.max_queue_delay = 0.5
    stage = Stage(replica)
    stage.submit(1)
    stage.loop.advance(0.2)
    stage.submit(1)
    assert sizes(replica) == []
    stage.loop.advance(0.3)
    assert sizes(replica) == [2]


def test_a_full_batch_does_not_wait_for_the_queue_delay() -> None:
    replica = NumberReplica()
    replica.attachment.max_queue_delay = 0.5
    stage = Stage(replica)
    stage.submit(*[1] * 8)
    assert sizes(replica) == [8]


def test_a_leaving_replica_gets_nothing_new() -> None:
    replica = NumberReplica()
    stage = Stage(replica)
    (entry,) = stage.submit(1)
    replica.attachment.leave()
    stage.dispatcher.replica_changed()
    stage.submit(1)
    assert sizes(replica) == [1]
    stage.answer(replica)
    assert_answered(entry)


def test_a_replica_that_does_not_read_gets_nothing_until_it_does() -> None:
    replica = NumberReplica()
    stage = Stage(replica)
    replica.attachment.pause()
    stage.submit(1)
    assert not replica.inbox
    replica.attachment.resume()
    stage.dispatcher.replica_resumed()
    stage.loop.run()
    stage.answer(replica)
    assert len(stage.finished) == 1


def test_what_waits_can_be_failed_as_a_whole() -> None:
    stage = Stage(NumberReplica(credit=1))
    _, waiting = *stage.submit(1), *stage.submit(1)
    stage.dispatcher.fail_all(UnavailableError("undeployed"))
    assert str(waiting.error) == "undeployed"
    assert stage.dispatcher.waiting == 0


def test_replicas_may_disagree_for_a_while_on_what_a_version_is() -> None:
    first, second = NumberReplica("first"), NumberReplica("second")
    other = announce("second", [1], 2, 8)
    other.versions[0].provenance["seed"] = 2
    second.attachment.announce(other)
    stage = Stage(first, second)
    assert stage.dispatcher.versions == {1: second.attachment.versions[1]}


def on_probation(*replicas: NumberReplica) -> Stage:
    """Makes a stage where traffic has just moved from version 1, which has answered, to version 2, which has not."""
    stage = Stage(*replicas)
    stage.dispatcher.set_route(Route({1: 1.0}), None)
    stage.submit(1)
    stage.answer(next(replica for replica in replicas if replica.inbox))
    stage.dispatcher.set_route(Route({2: 1.0}), Route({1: 1.0}), 1)
    stage.finished.clear()
    return stage


def test_a_version_that_has_never_answered_is_tried_with_one_batch() -> None:
    replicas = [NumberReplica(name, versions=(1, 2)) for name in ("first", "second")]
    stage = on_probation(*replicas)
    stage.submit(1, version=2)
    stage.submit(1, 1, version=2)
    assert sum(len(replica.inbox) for replica in replicas) == 1
    stage.answer(next(replica for replica in replicas if replica.inbox))
    assert [sizes(replica) for replica in replicas] == [[1], [1]], "from now on all of them compute it"


def test_a_version_that_never_answers_is_given_up_and_loses_nothing() -> None:
    replica = NumberReplica(versions=(1, 2), credit=1)
    stage = on_probation(replica)
    failures = 0
    while 2 not in stage.dispatcher.given_up:
        stage.submit(1, version=2)
        assert replica.inbox[0].version == 2
        stage.fail(replica, InternalError("the model failed"))
        failures += 1
        stage.answer(replica)
    assert failures == MAX_FAILURES
    assert [entry.version.number for entry in stage.finished] == [1] * failures
    for entry in stage.finished:
        assert_answered(entry)
    assert stage.dispatcher.given_up == {2: "the model failed"}
    assert stage.dispatcher.pick(0.5).number == 1
    stage.dispatcher.set_route(Route({2: 1.0}), Route({1: 1.0}), 2)
    assert stage.dispatcher.pick(0.5).number == 2, "somebody has changed what is wanted, so it is tried again"


def test_a_version_that_takes_its_replica_along_does_so_once() -> None:
    replicas = [NumberReplica(name, versions=(1, 2)) for name in ("first", "second")]
    stage = on_probation(*replicas)
    requests = stage.submit(1, 1, 1, version=2) + stage.submit(1, version=2)
    (victim,) = [replica for replica in replicas if replica.inbox]
    stage.lose(victim)
    (other,) = [replica for replica in replicas if replica is not victim]
    while other.inbox:
        assert other.inbox[0].version == 1
        stage.answer(other)
    for entry in requests:
        assert_answered(entry)


def test_an_observation_that_no_version_can_compute_fails_alone_on_probation() -> None:
    replica = NumberReplica(versions=(1, 2), credit=1)
    stage = on_probation(replica)
    (poison,) = stage.submit(1, version=2)
    stage.fail(replica, InternalError("cannot be computed"))
    assert [batch.version for batch in replica.inbox] == [1]
    stage.fail(replica, InternalError("cannot be computed"))
    assert isinstance(poison.error, InternalError)
    assert not stage.dispatcher.given_up
    (good,) = stage.submit(1, version=2)
    stage.answer(replica)
    assert_answered(good)
    assert good.version.number == 2


def test_whoever_names_a_version_gets_its_error() -> None:
    replica = NumberReplica(versions=(1, 2), credit=1)
    stage = on_probation(replica)
    (pinned,) = stage.submit(1, version=2, pinned=True)
    stage.fail(replica, InternalError("the model failed"))
    assert isinstance(pinned.error, InternalError)


def test_a_result_for_a_batch_that_nobody_sent_is_refused() -> None:
    replica = NumberReplica()
    stage = Stage(replica)
    with pytest.raises(ValueError, match="batch in flight"):
        stage.dispatcher.answered(replica.attachment, 77, replica_pb2.BatchAnswer())
