"""Ends trials whose iterations do not end, whatever they wait for."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray import tune

_RUNNING = "RUNNING"

_log = logging.getLogger(__name__)


class StallError(RuntimeError):
    """A trial has not finished an iteration for too long."""


class StallGuard(tune.Callback):  # type: ignore[misc] # Ray has no types
    """Watches a run's trials from the job's process, which none of what may hang runs in.

    A trial that hangs is ended alone: others of a sweep go on.

    Args:
        seconds: How long an iteration may take, the time before the first one included, but not the time that a trial
            waits for its resources.
        evaluation_seconds: How much longer it may take while the trial plays what it has learnt, which has a limit of
            its own.
        is_evaluating: Tells by Tune's id for it whether a trial does that.
        report: Takes Tune's id of a trial that hangs, and a sentence that says so.
    """

    def __init__(
        self,
        seconds: float,
        evaluation_seconds: float = 0.0,
        is_evaluating: Callable[[str], bool] = lambda _: False,
        report: Callable[[str, str], None] = lambda *_: None,
    ) -> None:
        self._seconds, self._evaluation_seconds = seconds, evaluation_seconds
        self._is_evaluating = is_evaluating
        self._report = report
        self._progressed: dict[str, float] = {}

    def on_step_begin(self, iteration: int, trials: Sequence[Any], **_: Any) -> None:  # noqa: ANN401 - Tune's signature
        """Looks at the trials; Tune calls it all the time.

        Raises:
            StallError: If one of them hangs that has no process to end.
        """
        now = time.monotonic()
        for trial in trials:
            if trial.status != _RUNNING:
                self._progressed.pop(trial.trial_id, None)
            elif self._hangs(trial.trial_id, now - self._progressed.setdefault(trial.trial_id, now)):
                self._end(trial)
                # Tune hears of it soon.
                self._progressed[trial.trial_id] = now

    def on_trial_result(self, *, trial: Any, **_: Any) -> None:  # noqa: ANN401 - Tune's signature
        """Notes that a trial has finished an iteration."""
        self._progressed[trial.trial_id] = time.monotonic()

    def _hangs(self, trial_id: str, seconds: float) -> bool:
        if seconds <= self._seconds:
            return False
        return seconds > self._seconds + self._evaluation_seconds or not self._is_evaluating(trial_id)

    def _end(self, trial: Any) -> None:  # noqa: ANN401 - Tune's
        why = f"no iteration has finished for {self._seconds:g} s: an environment or a process of the run hangs"
        _log.error("trial %s: %s", trial.trial_id, why)
        self._report(trial.trial_id, why)
        actor = trial.temporary_state.ray_actor
        if actor is None:
            raise StallError(why)
        # It would hang again.
        trial.max_failures = 0
        ray.kill(actor)
