"""Orders that reach a run while it trains: from MLflow, where the service leaves them, to the trial's process."""

from __future__ import annotations

import logging
import os
import threading
import time

import ray
from ray import tune
from ray.experimental import internal_kv

from services.trainer.job import phases
from services.trainer.records.tracking import FINAL, Tracking
from steersman.errors import SteersmanError

_POLL_SECONDS = 1.0
_PATIENCE_SECONDS = 8.0
"""How long an iteration may take to end when the run is to stop; then its last checkpoint has to do."""

_EVALUATION_SECONDS = 20.0
"""How long an evaluation may go on when the run is to stop; then its episodes are cut."""

_EVALUATION_PATIENCE_SECONDS = 45.0
"""The same as `_PATIENCE_SECONDS` for a trial that evaluates: it has exported what it has learnt."""

_current: list[Orders] = []

_log = logging.getLogger(__name__)


def stop_is_ordered() -> bool:
    """Tells, in any process of a run's job, whether the run is to stop and to export what was learnt."""
    # Ray's own key-value store is what all of them have in common; it has no public name.
    return bool(ray.is_initialized() and internal_kv._internal_kv_exists(_key()))  # noqa: SLF001


def order_stop() -> None:
    """Tells every process of this job to stop."""
    internal_kv._internal_kv_put(_key(), b"stop")  # noqa: SLF001 - see `stop_is_ordered`


def _key() -> bytes:
    return f"steersman-stop-{ray.get_runtime_context().get_job_id()}".encode()


class EvaluationPatience:
    """Tells an evaluation to end, some time after the run was told to stop. Each evaluation has one of its own."""

    def __init__(self) -> None:
        self._ordered_at: float | None = None

    def __call__(self) -> bool:
        """Tells whether the evaluation has had its time."""
        if self._ordered_at is None:
            if not stop_is_ordered():
                return False
            self._ordered_at = time.monotonic()
        return time.monotonic() - self._ordered_at > _EVALUATION_SECONDS


class Orders:
    """Looks for orders as long as a run goes on. A process has one.

    It ends this process when another attempt has taken over the run: that one writes to the same places. The trial ends
    with its iteration when it is told to stop, and `StopWhenOverdue` ends it if that takes too long.

    Args:
        tracking: MLflow.
        run_id: The run.
        attempt: The attempt that this process makes.
    """

    def __init__(self, tracking: Tracking, run_id: str, attempt: int) -> None:
        self._tracking = tracking
        self._run_id = run_id
        self._attempt = attempt
        self._ordered_at: float | None = None
        self._ended = threading.Event()
        _current.append(self)
        threading.Thread(target=self._look, daemon=True).start()

    @property
    def stop_ordered(self) -> bool:
        """Whether the run is to stop and to export what was learnt."""
        return self._ordered_at is not None

    @property
    def is_overdue(self) -> bool:
        """Whether the trial had its time to end by itself."""
        if self._ordered_at is None:
            return False
        since = time.monotonic() - self._ordered_at
        return since > _EVALUATION_PATIENCE_SECONDS or (since > _PATIENCE_SECONDS and not phases.any_evaluates())

    def end(self) -> None:
        """Looks no more."""
        self._ended.set()

    def _look(self) -> None:
        while not self._ended.wait(_POLL_SECONDS):
            try:
                self._look_once()
            except SteersmanError as error:
                _log.warning("%s", error)
            except Exception:  # noqa: BLE001 - a run that hears no orders any more could not be stopped
                _log.exception("looking for orders failed unexpectedly; looking again")

    def _look_once(self) -> None:
        tracked = self._tracking.get(self._run_id)
        if tracked.attempt != self._attempt or tracked.status in FINAL:
            _log.error("the run goes on elsewhere, or was ended: this attempt, number %d, ends", self._attempt)
            os._exit(1)
        if tracked.stop_asked and self._ordered_at is None:
            if ray.is_initialized():
                order_stop()
            self._ordered_at = time.monotonic()


class StopWhenOverdue(tune.Stopper):  # type: ignore[misc] # Ray has no types
    """Has Tune end trials that do not end in time when they are told to.

    It has no state of its own, since Tune keeps it with its experiment, and takes that one when the run is resumed.
    """

    def __call__(self, trial_id: str, result: object) -> bool:
        """Ends no trial by its result."""
        return False

    def stop_all(self) -> bool:
        """Tells Tune to end all trials now."""
        return any(orders.is_overdue for orders in _current)
