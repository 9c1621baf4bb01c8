"""Records what trials tell, as they tell it: Tune calls these in the job's process."""

from __future__ import annotations

import logging
from typing import Any

from google.protobuf import json_format
from ray import tune

from services.trainer.job import failure, publishing
from services.trainer.job.plan import Plan
from services.trainer.job.result_keys import CLAIMED, EXPORTED, RESULT
from services.trainer.job.sweeps.trial_records import TrialRecords
from services.trainer.job.trainable import trial_number
from services.trainer.records import tracking
from services.trainer.records.tracking import Tracking
from steersman.v1 import trainer_pb2

_log = logging.getLogger(__name__)


def told_iteration(result: dict[str, Any]) -> trainer_pb2.Iteration:
    """Reads the iteration that a trial wrote into its result."""
    return json_format.ParseDict(result[RESULT], trainer_pb2.Iteration())


def claimed_iteration(result: dict[str, Any]) -> trainer_pb2.Iteration:
    """Reads the same as a version claims it: with the return of episodes that have decided nothing."""
    return json_format.ParseDict(result.get(CLAIMED, result[RESULT]), trainer_pb2.Iteration())


class RunLog(tune.Callback):  # type: ignore[misc] # Ray has no types
    """Records the iterations of a run with one trial.

    Args:
        plan: The run.
        recorder: Where to.
    """

    def __init__(self, plan: Plan, recorder: Tracking) -> None:
        self._plan = plan
        self._recorder = recorder

    def on_trial_result(self, *, result: dict[str, Any], **_: Any) -> None:  # noqa: ANN401 - Tune's signature
        """Logs the iteration, and publishes what it exported on the way."""
        iteration = told_iteration(result)
        self._recorder.log(self._plan.run.id, iteration)
        _log.info("%s", json_format.MessageToJson(iteration, indent=None))
        if result[EXPORTED] and not result["done"]:
            publishing.publish(self._plan.run, self._plan.exported(claimed_iteration(result)), self._recorder)


class SweepLog(tune.Callback):  # type: ignore[misc] # Ray has no types
    """Records the trials of a sweep, and their iterations as its own, counted over all of them.

    Args:
        run: The run.
        recorder: Where to.
    """

    def __init__(self, run: trainer_pb2.Run, recorder: Tracking) -> None:
        self._run_id = run.id
        self._recorder = recorder
        self._records = TrialRecords(recorder, run)
        self._newest = trainer_pb2.Iteration()
        self._newest.CopyFrom(run.latest)
        self._failed: list[Any] = []

    def on_trial_start(self, *, trial: Any, **_: Any) -> None:  # noqa: ANN401 - Tune's signature
        """Notes that a trial goes on; in a population perhaps with other settings than before."""
        self._records.start(trial_number(trial.trial_id), trial.config)

    def on_trial_result(self, *, trial: Any, result: dict[str, Any], **_: Any) -> None:  # noqa: ANN401
        """Logs the iteration twice: as its trial's, and as the sweep's."""
        number, iteration = trial_number(trial.trial_id), told_iteration(result)
        self._records.log(number, iteration)
        self.log(number, iteration)

    def on_trial_complete(self, *, trial: Any, **_: Any) -> None:  # noqa: ANN401
        """Notes whether a trial was evaluated at its end, or ended before that."""
        evaluated = (trial.last_result or {}).get("done") and trial.last_result.get(EXPORTED)
        self._records.end(trial_number(trial.trial_id), tracking.FINISHED if evaluated else tracking.KILLED)

    def on_trial_error(self, *, trial: Any, **_: Any) -> None:  # noqa: ANN401
        """Notes that a trial failed. The others go on."""
        self._failed.append(trial)

    def on_step_end(self, **_: Any) -> None:  # noqa: ANN401
        """Records why trials failed, which Tune knows only some time after it has said that they did."""
        for trial in list(self._failed):
            if (error := trial.get_pickled_error() or trial.get_error()) is not None:
                self._failed.remove(trial)
                number = trial_number(trial.trial_id)
                self._records.end(number, tracking.FAILED, failure.explain(error, trial=number))

    def on_experiment_end(self, **_: Any) -> None:  # noqa: ANN401
        """Ends the trials that were ended with the run."""
        self.on_step_end()
        for trial in self._failed:
            why = "Ray does not say why; the run's log may"
            self._records.end(trial_number(trial.trial_id), tracking.FAILED, why)
        self._records.end_all()

    def log(self, number: int, iteration: trainer_pb2.Iteration) -> None:
        """Records an iteration of a trial as one of the sweep."""
        self._newest = swept(self._newest, number, iteration, self._trials())
        self._recorder.log(self._run_id, self._newest)
        _log.info("%s", json_format.MessageToJson(self._newest, indent=None))

    def _trials(self) -> list[trainer_pb2.Trial]:
        return list(self._records.trials.values())


def swept(
    newest: trainer_pb2.Iteration,
    number: int,
    iteration: trainer_pb2.Iteration,
    trials: list[trainer_pb2.Trial],
) -> trainer_pb2.Iteration:
    """Gives a trial's iteration as one of its sweep.

    Args:
        newest: The sweep's iteration before.
        number: The trial's number.
        iteration: Its iteration.
        trials: All trials, with their newest iterations.
    """
    found = trainer_pb2.Iteration()
    found.CopyFrom(iteration)
    found.trial = number
    found.iteration = newest.iteration + 1
    found.steps = sum(each.latest.steps for each in trials)
    found.seconds = sum(each.latest.seconds for each in trials)
    for name in ("best_training_return", "best_evaluated_return"):
        there = [getattr(entry, name) for entry in (newest, iteration) if entry.HasField(name)]
        if there:
            setattr(found, name, max(there))
    return found
