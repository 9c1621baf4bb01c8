from dataclasses import fields

import pytest

from services.gateway.requests.statistics import Statistics
from steersman.errors import DeadlineExceededError, InternalError, ResourceExhaustedError, SteersmanError
from steersman.v1 import policy_pb2
from tests.unit.services.gateway.numbers import request


@pytest.mark.parametrize(
    ("error", "count"),
    [
        (InternalError("the model failed"), "failed"),
        (DeadlineExceededError("too late"), "expired"),
        (ResourceExhaustedError("no room"), "shed"),
    ],
)
def test_each_kind_of_failure_is_counted_as_what_it_is(error: SteersmanError, count: str) -> None:
    statistics = Statistics()
    statistics.count_failure(error)
    assert statistics.message(3) == policy_pb2.PolicyStatistics(waiting=3, **{count: 1})


def test_a_request_is_counted_once_whatever_else_happens_to_it() -> None:
    entry = request(deadline=1.0)
    entry.abandon(0.5)
    entry.fail(InternalError("the model failed"), 1.0)
    entry.answer(0, 1, entry.inputs, 1, 1.5)
    entry.abandon(2.0)
    assert entry.statistics == Statistics(cancelled=1)


def test_a_caller_who_goes_at_the_deadline_has_not_cancelled() -> None:
    entry = request(deadline=1.0)
    # Its clock may run ahead a little.
    entry.abandon(0.999)
    assert entry.statistics == Statistics(expired=1)


def test_the_message_holds_every_count() -> None:
    statistics = Statistics()
    names = [field.name for field in fields(Statistics) if field.type == "int"]
    counts = {name: index + 1 for index, name in enumerate(names)}
    for name, count in counts.items():
        setattr(statistics, name, count)
    message = statistics.message(99)
    assert {field.name: value for field, value in message.ListFields()} == counts | {"waiting": 99}
