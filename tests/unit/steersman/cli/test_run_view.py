from __future__ import annotations

from steersman.cli.run_view import describe
from steersman.v1 import trainer_pb2


def test_a_run_that_waits_says_what_for() -> None:
    run = trainer_pb2.Run(
        id="abc", state=trainer_pb2.RUN_STATE_QUEUED, queue_reason="waits for 8 CPUs", queue_position=3
    )
    assert describe(run) == "run abc: queued, number 3 in the queue: waits for 8 CPUs"
