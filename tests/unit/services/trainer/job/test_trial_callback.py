from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import json_format

from services.trainer.job.trial_callback import is_due, reached, reached_target, read_memory
from steersman.v1.trainer_pb2 import Iteration, StopCriteria


@pytest.mark.parametrize(
    ("stop", "before", "after"),
    [
        (StopCriteria(iterations=3), Iteration(iteration=2), Iteration(iteration=3)),
        (StopCriteria(steps=100), Iteration(steps=99), Iteration(steps=101)),
        (StopCriteria(seconds=1.5), Iteration(seconds=1.4), Iteration(seconds=1.5)),
        (
            StopCriteria(episode_return=450),
            Iteration(evaluated_return=449.0),
            Iteration(evaluated_return=450.0),
        ),
        (
            StopCriteria(episode_return=-100),
            Iteration(),
            Iteration(evaluated_return=-99.0),
        ),
        (
            StopCriteria(episode_return=450, iterations=10),
            Iteration(iteration=9, evaluated_return=1.0),
            Iteration(iteration=10, evaluated_return=1.0),
        ),
    ],
)
def test_a_run_ends_with_the_first_criterion_that_is_met(
    stop: StopCriteria, before: Iteration, after: Iteration
) -> None:
    assert not reached(stop, before)
    assert reached(stop, after)


def test_a_training_return_ends_nothing() -> None:
    assert not reached(StopCriteria(episode_return=450), Iteration(training_return=500))


def test_a_return_of_episodes_that_were_cut_reaches_no_target() -> None:
    """An episode that costs something every step looks better the sooner it is cut."""
    stop = StopCriteria(episode_return=-100)
    assert reached_target(stop, Iteration(evaluated_return=-50.0))
    assert not reached_target(stop, Iteration(evaluated_return=-50.0, cut_episodes=1))
    assert not reached(stop, Iteration(evaluated_return=-50.0, cut_episodes=1))


@pytest.mark.parametrize(("every", "due"), [(0, []), (1, [1, 2, 3, 4]), (2, [2, 4])])
def test_what_is_done_every_so_many_iterations(every: int, due: list[int]) -> None:
    assert [iteration for iteration in range(1, 5) if is_due(every, iteration)] == due


def test_a_memory_that_was_cut_at_any_byte_keeps_nobody_from_going_on(tmp_path: Path) -> None:
    """Earlier versions wrote it in place."""
    path = tmp_path / "latest.json"
    assert read_memory(path) == Iteration()
    whole = json_format.MessageToJson(Iteration(iteration=3, steps=192, best_evaluated_return=1.5)).encode()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        assert read_memory(path) == Iteration()
    path.write_bytes(whole)
    assert read_memory(path).best_evaluated_return == 1.5
