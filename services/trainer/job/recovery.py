"""Has Tune go on with trials whose processes were lost, from their last checkpoints, and only with those.

Tune itself tries again after any error. What a trial raised, its environment or the loss of its network, would come
again, and the run would end later for the same reason.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from ray import tune
from ray.exceptions import RayActorError, RayTaskError
from ray.tune.experiment import Trial

LOST_PROCESSES = 2
"""How often a trial goes on after one of its processes was lost, in each attempt of its run."""

_log = logging.getLogger(__name__)


def was_lost(error: BaseException | None) -> bool:
    """Tells whether a process was lost, as opposed to one that said what went wrong."""
    if isinstance(error, RayTaskError):
        error = error.as_instanceof_cause()
    return isinstance(error, RayActorError)


class Recovery(tune.Callback):  # type: ignore[misc] # Ray has no types
    """Bounds how often each trial goes on, and says that it does.

    Args:
        explained: Tells by Tune's id for it why a trial failed, if it is known; then it was not merely lost.
        warn: Takes a sentence about what was lost.

    Attributes:
        failed: What ended each trial that failed, by Tune's id for it. Tune itself tells it from files, for which there
            may be no room.
    """

    def __init__(
        self, explained: Callable[[str], str] = lambda _: "", warn: Callable[[str], None] = lambda _: None
    ) -> None:
        self._warn = warn
        self._bounded: set[str] = set()
        self._raised: dict[str, BaseException] = {}
        self.failed: dict[str, BaseException] = {}
        _install(explained, self._raised)

    def on_step_begin(self, iteration: int, trials: Sequence[Any], **_: Any) -> None:  # noqa: ANN401 - Tune's signature
        """Bounds trials that are new to it; those of a run that was resumed have failures of earlier attempts."""
        for trial in trials:
            if trial.trial_id not in self._bounded:
                self._bounded.add(trial.trial_id)
                trial.max_failures = trial.run_metadata.num_failures + LOST_PROCESSES

    def on_trial_error(self, *, trial: Any, **_: Any) -> None:  # noqa: ANN401 - Tune's signature
        """Keeps what ended a trial."""
        self.failed[trial.trial_id] = self._raised.get(trial.trial_id) or RuntimeError("a trial failed")

    def on_trial_recover(self, *, trial: Any, **_: Any) -> None:  # noqa: ANN401 - Tune's signature
        """Says that a trial goes on."""
        error = str(trial.get_error() or "").strip().splitlines()
        _log.warning("trial %s lost a process and goes on from its last checkpoint: %s", trial.trial_id, error[-1:])
        self._warn("a process of the run was lost; it went on from its last checkpoint")


def _install(explained: Callable[[str], str], raised: dict[str, BaseException]) -> None:
    """Has Tune's trials give up where nothing was lost: there is no public way to choose what is tried again."""
    handle = getattr(Trial.handle_error, "original", Trial.handle_error)

    def handle_error(trial: Any, exc: Exception | None = None) -> None:  # noqa: ANN401 - Tune's
        handle(trial, exc)
        if exc is not None:
            raised[trial.trial_id] = exc
        if not was_lost(exc) or explained(trial.trial_id):
            trial.max_failures = 0

    handle_error.original = handle  # type: ignore[attr-defined] # so that it is wrapped once
    Trial.handle_error = handle_error
