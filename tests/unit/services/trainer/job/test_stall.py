from __future__ import annotations

from dataclasses import dataclass

import pytest

from services.trainer.job.stall import StallError, StallGuard


@dataclass
class Trial:
    trial_id: str = "one"
    status: str = "RUNNING"


def test_a_trial_without_an_iteration_for_too_long_ends_the_run() -> None:
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
