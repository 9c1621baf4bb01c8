import pytest

from services.gateway.dispatch.dispatcher import Dispatcher
from services.gateway.requests.version_statistics import Duration, VersionStatistics
from steersman.errors import InternalError
from tests.unit.services.gateway.numbers import NO_LIMITS, ManualLoop, NumberReplica, request


def test_batches_are_counted_by_size_and_answers_one_by_one() -> None:
    counted = VersionStatistics()
    counted.count_batch(3, 0.5)
    counted.count_batch(3, 0.25)
    counted.count_batch(1, 0.125)
    counted.count_answer(1.0, 1.5, 0.5, now=4.0)
    counted.count_answer(2.0, 2.25, 0.25, now=4.0)
    assert counted.batches == {3: Duration(2, 0.75), 1: Duration(1, 0.125)}
    assert counted.answered == Duration(2, 5.0)
    assert counted.queued == Duration(2, 0.75)
    assert counted.computed == Duration(2, 0.75)
    assert counted.last_answer == 4.0


def test_a_request_in_several_batches_is_counted_once_with_its_last() -> None:
    loop = ManualLoop()
    dispatcher = Dispatcher("numbers", NO_LIMITS, loop, loop.time)
    replica = NumberReplica(max_batch_size=2)
    dispatcher.attach(replica.attachment)
    loop.run()
    entry = request(size=5)
    entry.statistics = dispatcher.statistics
    dispatcher.submit(entry)
    for _ in range(3):
        loop.run()
        message = replica.inbox.pop(0)
        loop.advance(1.0)
        answer = replica.compute(message)
        dispatcher.answered(replica.attachment, message.id, answer)
    counted = dispatcher.statistics.version(1)
    assert counted.answered == Duration(1, 3.0)
    assert counted.computed.seconds == pytest.approx(1e-6)
    assert {size: batches.count for size, batches in counted.batches.items()} == {2: 2, 1: 1}
    assert counted.failed == Duration()


def test_what_fails_or_is_given_up_is_counted_as_failed() -> None:
    failed, abandoned = request(), request()
    failed.fail(InternalError("the model failed"), 3.0)
    abandoned.abandon(2.0)
    assert failed.statistics.version(1).failed == Duration(1, 3.0)
    assert abandoned.statistics.version(1).failed == Duration(1, 2.0)
