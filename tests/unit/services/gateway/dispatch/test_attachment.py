import pytest

from services.gateway.dispatch.attachment import Attachment, AttachmentState
from services.gateway.requests.batch import Batch
from services.gateway.requests.options import GREEDY
from services.gateway.requests.request import Segment
from steersman.errors import InternalError, InvalidArgumentError
from steersman.v1 import replica_pb2
from tests.unit.services.gateway.sums import (
    MAX_MESSAGE_BYTES,
    MEMORY,
    PLAIN,
    SAMPLED,
    WIDE,
    announce,
    request,
    version,
)

LONGEST = 10.0
READY, CLOGGED, LEAVING, LOST = AttachmentState


def attachment(*versions: int, credit: int = 3, max_batch_size: int = 512) -> Attachment:
    announced = announce(versions or [PLAIN], credit=credit, max_batch_size=max_batch_size)
    return Attachment(announced, lambda _: None, max_message_bytes=MAX_MESSAGE_BYTES)


def give(replica: Attachment, now: float, size: int = 1, number: int = PLAIN) -> int:
    replica.give(Batch(version(number), GREEDY, [Segment(request(number, size), 0, size)], size, now), 0)
    return replica.last_given


def answer(replica: Attachment, given: float, answered: float, size: int = 1, number: int = PLAIN) -> None:
    replica.take_back(give(replica, given, size, number), answered)


def test_who_holds_nothing_owes_nothing() -> None:
    assert not attachment().is_overdue(1e9, LONGEST)


def test_before_its_first_answer_a_replica_may_take_as_long_as_any() -> None:
    replica = attachment()
    give(replica, 0.0)
    assert not replica.is_overdue(LONGEST, LONGEST)
    assert replica.is_overdue(LONGEST + 0.1, LONGEST)


@pytest.mark.parametrize(("usual", "patience"), [(0.001, 2.0), (0.2, 4.0), (3.0, LONGEST)])
def test_afterwards_as_long_as_can_be_expected(usual: float, patience: float) -> None:
    replica = attachment()
    answer(replica, 0.0, usual)
    give(replica, 100.0)
    assert not replica.is_overdue(100.0 + patience, LONGEST)
    assert replica.is_overdue(100.0 + patience + 0.1, LONGEST)


def test_what_was_slow_once_is_forgotten_in_time() -> None:
    replica = attachment()
    answer(replica, 0.0, 1.0)
    for number in range(1000):
        answer(replica, 1.0 + number, 1.001 + number)
    give(replica, 2000.0)
    assert replica.is_overdue(2002.1, LONGEST)


def test_a_batch_that_is_larger_than_the_last_ones_may_take_so_much_longer() -> None:
    replica = attachment()
    # 0.1 s an observation, as a slow model takes on a CPU.
    for number in range(20):
        answer(replica, number, number + 0.1)
    give(replica, 100.0, size=256)
    assert not replica.is_overdue(100.0 + 25.6, LONGEST), "as long as it needs"
    assert not replica.is_overdue(100.0 + 2 * 25.6, LONGEST)
    assert replica.is_overdue(100.0 + 3 * 25.6 + 0.1, LONGEST)


def test_the_first_batch_of_a_slow_version_may_take_as_long_as_its_warm_up_lets_expect() -> None:
    announced = announce([PLAIN], max_batch_size=512)
    # 0.05 s an observation; it is not warmed with larger batches, since that would take too long.
    announced.versions[0].warm_up_observations, announced.versions[0].warm_up_microseconds = 4, 200_000
    replica = Attachment(announced, lambda _: None, max_message_bytes=MAX_MESSAGE_BYTES)
    given = give(replica, 0.0, size=256)
    assert not replica.is_overdue(12.8, LONGEST), "as long as it needs"
    assert replica.is_overdue(3 * 12.8 + 0.1, LONGEST)
    replica.take_back(given, 12.8)
    give(replica, 100.0)
    assert not replica.is_overdue(100.0 + LONGEST, LONGEST)


def test_a_fast_warm_up_makes_nobody_impatient() -> None:
    announced = announce([PLAIN])
    announced.versions[0].warm_up_observations, announced.versions[0].warm_up_microseconds = 64, 50
    replica = Attachment(announced, lambda _: None, max_message_bytes=MAX_MESSAGE_BYTES)
    give(replica, 0.0)
    assert not replica.is_overdue(LONGEST, LONGEST)


def test_only_what_is_computed_counts_and_not_what_waited_behind_another_batch() -> None:
    replica = attachment()
    first, second = give(replica, 0.0), give(replica, 0.1)
    replica.take_back(first, 8.0)
    assert not replica.is_overdue(16.0, LONGEST), "8 s, as the first one took"
    assert not replica.is_overdue(8.0 + 3 * 8.0, LONGEST)
    assert replica.is_overdue(8.0 + 3 * 8.0 + 0.1, LONGEST)
    replica.take_back(second, 16.0)
    give(replica, 100.0)
    assert not replica.is_overdue(100.0 + 3 * 8.0, LONGEST)
    assert replica.is_overdue(100.0 + 3 * 8.0 + 0.1, LONGEST), "not 16 s, which the second one took with its wait"


def test_every_version_has_its_own_pace() -> None:
    replica = attachment(PLAIN, WIDE)
    for number in range(50):
        answer(replica, number, number + 0.001, number=PLAIN)
    give(replica, 100.0, number=WIDE)
    assert not replica.is_overdue(100.0 + LONGEST, LONGEST), "its first batch"
    give(replica, 100.0, number=PLAIN)
    assert not replica.is_overdue(100.0 + LONGEST, LONGEST), "the slow one may be computed first"
    replica.take_back_all()


def test_a_fast_version_is_overdue_soon_also_beside_a_slow_one() -> None:
    replica = attachment(PLAIN, WIDE)
    answer(replica, 0.0, 3.0, number=WIDE)
    answer(replica, 4.0, 4.001, number=PLAIN)
    give(replica, 100.0, number=PLAIN)
    assert replica.is_overdue(102.1, LONGEST)


def test_a_version_that_is_loaded_anew_begins_anew() -> None:
    replica = attachment(PLAIN, WIDE)
    answer(replica, 0.0, 0.001, number=PLAIN)
    replica.announce(announce([WIDE]))
    replica.announce(announce([PLAIN, WIDE]))
    give(replica, 100.0)
    assert not replica.is_overdue(100.0 + LONGEST, LONGEST)


def test_who_sends_anything_is_alive() -> None:
    replica = attachment()
    give(replica, 0.0)
    replica.heard(9.0)
    assert not replica.is_overdue(9.0 + LONGEST, LONGEST)
    assert replica.is_overdue(9.0 + LONGEST + 0.1, LONGEST)


def test_states_follow_on_each_other_as_the_connection_lives() -> None:
    replica = attachment()
    assert replica.state is READY
    replica.pause()
    assert replica.state is CLOGGED
    replica.resume()
    assert replica.state is READY
    replica.pause()
    replica.leave()
    assert replica.leaving
    # It still reads what it was sent, or does not.
    replica.resume()
    replica.pause()
    replica.leave()
    assert replica.state is LEAVING
    replica.take_back_all()
    assert replica.state is LOST
    assert not replica.leaving
    with pytest.raises(KeyError):
        replica.resume()


@pytest.mark.parametrize("state", [CLOGGED, LEAVING, LOST])
def test_only_who_is_ready_takes_batches(state: AttachmentState) -> None:
    replica = attachment()
    assert replica.can_take(PLAIN, GREEDY, 1)
    {CLOGGED: replica.pause, LEAVING: replica.leave, LOST: replica.take_back_all}[state]()
    assert not replica.can_take(PLAIN, GREEDY, 1)
    assert not replica.wants_work(1)


def test_a_batch_is_held_only_if_it_was_sent() -> None:
    def refuse(_: bytes) -> None:
        raise ConnectionResetError("it has hung up")

    replica = Attachment(announce([PLAIN]), refuse, max_message_bytes=MAX_MESSAGE_BYTES)
    with pytest.raises(ConnectionResetError, match="it has hung up"):
        give(replica, 0.0)
    assert (replica.in_flight, replica.last_given, replica.state) == (0, 0, LOST)
    assert replica.take_back_all() == [], "it is detached soon"
    wrong = Batch(version(MEMORY), GREEDY, [Segment(request(MEMORY, carries=PLAIN), 0, 1)], 1, 0.0)
    with pytest.raises(InternalError, match="expected requests with 3 inputs"):
        attachment(MEMORY).give(wrong, 0)


def test_a_batch_holds_no_more_than_its_message_and_that_of_its_answer_take() -> None:
    announced = announce([PLAIN, WIDE, MEMORY], max_batch_size=100, max_message_bytes=1000)
    replica = Attachment(announced, lambda _: None, max_message_bytes=1000)
    assert replica.most_observations(PLAIN, GREEDY) == 100, "the limit in observations"
    wide, memory = replica.most_observations(WIDE, GREEDY), replica.most_observations(MEMORY, GREEDY)
    assert 1 < memory < wide < 100
    sampled = replica.most_observations(PLAIN, SAMPLED)
    assert 1 < sampled < wide, "seeds take room as well"
    answers = Attachment(announced, lambda _: None, max_message_bytes=400)
    assert answers.most_observations(PLAIN, GREEDY) < 100, "what it answers has to fit into what the gateway takes"
    assert answers.most_observations(MEMORY, GREEDY) < memory


def test_who_does_not_say_how_much_it_takes_takes_as_much_as_the_gateway() -> None:
    silent = Attachment(announce([WIDE], max_batch_size=1000), lambda _: None, max_message_bytes=1000)
    telling = Attachment(
        announce([WIDE], max_batch_size=1000, max_message_bytes=500), lambda _: None, max_message_bytes=1000
    )
    assert (silent.max_message_bytes, telling.max_message_bytes) == (1000, 500)
    assert telling.most_observations(WIDE, GREEDY) < silent.most_observations(WIDE, GREEDY)
    telling.announce(announce([WIDE], max_batch_size=1000, max_message_bytes=1000))
    assert telling.most_observations(WIDE, GREEDY) == silent.most_observations(WIDE, GREEDY)


def test_a_replica_whose_batches_are_bounded_by_bytes_gets_its_next_one_once_that_is_full() -> None:
    replica = Attachment(
        announce([WIDE], credit=4, max_batch_size=1000, max_message_bytes=500),
        lambda _: None,
        max_message_bytes=MAX_MESSAGE_BYTES,
    )
    most = replica.most_observations(WIDE, GREEDY)
    give(replica, 0.0, most, WIDE)
    give(replica, 0.0, most, WIDE)
    assert replica.can_take(WIDE, GREEDY, most)
    assert not replica.can_take(WIDE, GREEDY, most - 1)


def test_another_replicas_announcement_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="to announce itself, got 'other'"):
        attachment().announce(announce([PLAIN], replica_id="other"))


def test_a_message_that_is_too_large_after_all_is_not_sent() -> None:
    sent: list[bytes] = []
    replica = Attachment(announce([PLAIN], max_message_bytes=50), sent.append, max_message_bytes=MAX_MESSAGE_BYTES)
    with pytest.raises(InternalError, match="at most 50 bytes"):
        give(replica, 0.0, size=10)
    assert not sent


@pytest.mark.parametrize(
    ("held", "size", "queue_depth", "microseconds"), [(0, 1, 0, 300), (1, 1, 0, 0), (0, 2, 0, 0), (0, 1, 5, 0)]
)
def test_both_sides_stay_awake_only_for_a_single_caller(
    held: int, size: int, queue_depth: int, microseconds: int
) -> None:
    sent, expected = list[bytes](), list[float]()
    replica = Attachment(
        announce([PLAIN], credit=3),
        sent.append,
        max_message_bytes=MAX_MESSAGE_BYTES,
        busy_poll_microseconds=300,
        expect_answer=expected.append,
    )
    for _ in range(held):
        give(replica, 0.0)
    replica.give(Batch(version(PLAIN), GREEDY, [Segment(request(PLAIN, size), 0, size)], size, 0.0), queue_depth)
    told = replica_pb2.AttachResponse.FromString(sent[-1]).batch.busy_poll_microseconds
    assert told == microseconds
    assert expected[-1] == microseconds / 1e6
