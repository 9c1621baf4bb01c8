"""Ends a run whose iterations do not, whatever they wait for."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from ray import tune

_RUNNING = "RUNNING"


class StallError(RuntimeError):
    """A trial has not finished an iteration for too long."""


class StallGuard(tune.Callback):  # type: ignore[misc] # Ray has no types
    """Watches a run's trials from the job's process, which none of what may hang runs in.

    Args:
        seconds: How long an iteration may take, the time before the first one included, but not the time that a trial
            waits for its resources.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._progressed: dict[str, float] = {}

    def on_step_begin(self, iteration: int, trials: Sequence[Any], **_: Any) -> None:  # noqa: ANN401 - Tune's signature
        """Looks at the trials; Tune calls it all the time.

        Raises:
            StallError: If one of them hangs.
        """
        now = time.monotonic()
        for trial in trials:
            if trial.status != _RUNNING:
                self._progressed.pop(trial.trial_id, None)
            elif now - self._progressed.setdefault(trial.trial_id, now) > self._seconds:
                raise StallError(
                    f"no iteration has finished for {self._seconds:g} s: an environment or a process of the run hangs"
                )

    def on_trial_result(self, *, trial: Any, **_: Any) -> None:  # noqa: ANN401 - Tune's signature
        """Notes that a trial has finished an iteration."""
        self._progressed[trial.trial_id] = time.monotonic()
