from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from services.trainer.job.stall import StallError, StallGuard


@dataclass
class Trial:
    trial_id: str = "one"
    status: str = "RUNNING"
    max_failures: int = 2
    temporary_state: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(ray_actor=None))


def test_a_trial_that_hangs_and_has_no_process_ends_the_run() -> None:
    guard, trial = StallGuard(0.0), Trial()
    guard.on_step_begin(1, [trial])
    with pytest.raises(StallError, match="no iteration has finished for 0 s"):
        guard.on_step_begin(2, [trial])


def test_a_trial_that_waits_for_resources_does_not() -> None:
    guard, trial = StallGuard(0.0), Trial(status="PENDING")
    for step in range(3):
        guard.on_step_begin(step, [trial])
    trial.status = "RUNNING"
    guard.on_step_begin(3, [trial])


def test_every_iteration_starts_the_clock_again() -> None:
    guard, trial = StallGuard(60.0), Trial()
    guard.on_step_begin(1, [trial])
    guard._progressed[trial.trial_id] -= 100
    guard.on_trial_result(trial=trial)
    guard.on_step_begin(2, [trial])


def test_while_it_evaluates_a_trial_has_more_time() -> None:
    """Greedy play has a limit of its own: it is not a stalled iteration."""
    evaluating = True
    guard, trial = StallGuard(60.0, 600.0, lambda _: evaluating), Trial()
    guard.on_step_begin(1, [trial])
    guard._progressed[trial.trial_id] -= 100
    guard.on_step_begin(2, [trial])
    evaluating = False
    with pytest.raises(StallError):
        guard.on_step_begin(3, [trial])
    evaluating = True
    guard._progressed[trial.trial_id] -= 700
    with pytest.raises(StallError):
        guard.on_step_begin(4, [trial])
