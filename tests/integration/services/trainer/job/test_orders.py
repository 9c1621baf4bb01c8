"""Orders reach a run that trains, also after MLflow has answered what nobody expects."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.trainer.job import orders as orders_module
from services.trainer.job.orders import Orders
from services.trainer.records.tracking import Tracking
from steersman.v1 import trainer_pb2

pytestmark = pytest.mark.integration


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(orders_module, "_POLL_SECONDS", 0.02)
    current = list(orders_module._current)
    yield
    orders_module._current[:] = current


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.usefixtures("_quick")
def test_a_stop_arrives_after_answers_that_make_no_sense(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tracking = Tracking(f"sqlite:///{tmp_path}/mlflow.db")
    run = tracking.create(trainer_pb2.RunSpec(policy="cartpole"))
    tracking.client.set_tag(run, "steersman.attempt", "the first")
    orders = Orders(tracking, run, 1)
    try:
        with caplog.at_level(logging.ERROR):
            until(lambda: any("looking for orders failed" in record.getMessage() for record in caplog.records))
        assert not orders.stop_ordered
        tracking.client.set_tag(run, "steersman.attempt", "1")
        tracking.client.set_tag(run, "steersman.stop", "1")
        until(lambda: orders.stop_ordered)
    finally:
        orders.end()
