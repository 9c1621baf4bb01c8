import pytest

from services.gateway.dispatch.attachment import Attachment
from services.gateway.requests.batch import Batch
from services.gateway.requests.options import GREEDY
from services.gateway.requests.request import Segment
from tests.unit.services.gateway.numbers import MAX_MESSAGE_BYTES, announce, request, version

LONGEST = 10.0


def attachment() -> Attachment:
    return Attachment(announce("replica", [1], 2, 8), lambda _: None, max_message_bytes=MAX_MESSAGE_BYTES)


def give(replica: Attachment, now: float) -> int:
    replica.give(Batch(version(), GREEDY, [Segment(request(), 0, 1)], 1, now), 0)
    return replica.last_given


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
    replica.take_back(give(replica, 0.0), usual)
    give(replica, 100.0)
    assert not replica.is_overdue(100.0 + patience, LONGEST)
    assert replica.is_overdue(100.0 + patience + 0.1, LONGEST)


def test_what_was_slow_once_is_forgotten_in_time() -> None:
    replica = attachment()
    replica.take_back(give(replica, 0.0), 1.0)
    for _ in range(1000):
        replica.take_back(give(replica, 0.0), 0.001)
    give(replica, 100.0)
    assert replica.is_overdue(102.1, LONGEST)
