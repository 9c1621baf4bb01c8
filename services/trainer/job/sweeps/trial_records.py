"""The trials of a sweep in MLflow: runs of their own, nested in the sweep's, so that they can be compared there."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format
from mlflow.entities import Metric, Param
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from services.trainer.records import tracking
from services.trainer.records.tracking import Tracking, latest_iteration
from steersman.v1 import trainer_pb2

_NUMBER = "steersman.trial"
_SETTINGS = "steersman.trial_settings"
_SETTING = "settings/"
"""What the names of metrics begin with that follow settings which change on the way."""

_MOST = 1000

_STATES = {
    "FINISHED": trainer_pb2.RUN_STATE_SUCCEEDED,
    "FAILED": trainer_pb2.RUN_STATE_FAILED,
    "KILLED": trainer_pb2.RUN_STATE_STOPPED,
    "RUNNING": trainer_pb2.RUN_STATE_RUNNING,
}


def read_trials(recorder: Tracking, run_id: str) -> list[trainer_pb2.Trial]:
    """Reads the trials of a sweep, by their numbers.

    Raises:
        UnavailableError: If MLflow cannot be reached.
    """
    with recorder.reachable(run_id):
        found = recorder.client.search_runs(
            [recorder.client.get_run(run_id).info.experiment_id],
            filter_string=f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{run_id}'",
            max_results=_MOST,
        )
    return sorted(map(_trial, found), key=lambda trial: trial.number)


def end_trials(recorder: Tracking, run_id: str) -> None:
    """Ends the trials of a sweep that ended without doing so itself.

    Raises:
        UnavailableError: If MLflow cannot be reached.
    """
    for trial in read_trials(recorder, run_id):
        if trial.state == trainer_pb2.RUN_STATE_RUNNING:
            recorder.end(trial.id, tracking.KILLED)


class TrialRecords:
    """Writes the trials of one sweep. Every method raises UnavailableError where MLflow cannot be reached.

    Args:
        recorder: MLflow.
        run: The sweep's run.
    """

    def __init__(self, recorder: Tracking, run: trainer_pb2.Run) -> None:
        self._recorder = recorder
        self._run = run
        self.trials = {trial.number: trial for trial in read_trials(recorder, run.id)}

    def start(self, number: int, settings: Mapping[str, Any]) -> None:
        """Notes that a trial goes on, for the first time or again, perhaps with other settings."""
        values = plain_settings(settings)
        if (trial := self.trials.get(number)) is None:
            trial = self.trials[number] = trainer_pb2.Trial(number=number, id=self._create(number, values))
            trial.settings.update(values)
        elif trial.settings != (changed := json_format.ParseDict(values, type(trial.settings)())):
            trial.settings.CopyFrom(changed)
            self._follow(trial, values)
        if trial.state != trainer_pb2.RUN_STATE_RUNNING:
            trial.state = trainer_pb2.RUN_STATE_RUNNING
            self._recorder.start(trial.id)

    def log(self, number: int, iteration: trainer_pb2.Iteration) -> None:
        """Records an iteration of a trial."""
        trial = self.trials[number]
        trial.latest.CopyFrom(iteration)
        self._recorder.log(trial.id, iteration)

    def end(self, number: int, status: str, error: str = "") -> None:
        """Records how a trial ended: FINISHED, FAILED or KILLED, and why it failed."""
        trial = self.trials[number]
        trial.state, trial.error = _STATES[status], error
        self._recorder.end(trial.id, status, error)

    def end_all(self) -> None:
        """Ends the trials that nobody else did."""
        for number, trial in self.trials.items():
            if trial.state == trainer_pb2.RUN_STATE_RUNNING:
                self.end(number, tracking.KILLED)

    def _create(self, number: int, values: Mapping[str, Any]) -> str:
        client, spec = self._recorder.client, self._run.spec
        parameters = {"algorithm": spec.algorithm, "environment": spec.environment.id}
        parameters |= {f"settings.{name}": value for name, value in values.items()}
        with self._recorder.reachable(self._run.id):
            experiment = client.get_run(self._run.id).info.experiment_id
            tags = {
                MLFLOW_PARENT_RUN_ID: self._run.id,
                _NUMBER: str(number),
                _SETTINGS: json.dumps(values),
            }
            trial_id: str = client.create_run(experiment, tags=tags, run_name=f"trial {number}").info.run_id
            client.log_batch(trial_id, params=[Param(name, str(value)) for name, value in parameters.items()])
        return trial_id

    def _follow(self, trial: trainer_pb2.Trial, values: Mapping[str, Any]) -> None:
        """Notes other settings: MLflow's parameters cannot change, metrics can."""
        now, step = int(time.time() * 1000), trial.latest.iteration
        numbers = {name: value for name, value in values.items() if isinstance(value, int | float)}
        with self._recorder.reachable(trial.id):
            self._recorder.client.set_tag(trial.id, _SETTINGS, json.dumps(values))
            self._recorder.client.log_batch(
                trial.id,
                metrics=[Metric(f"{_SETTING}{name}", float(value), now, step) for name, value in numbers.items()],
            )


def plain_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Gives what Tune has drawn as JSON values; some are NumPy's."""
    values: dict[str, Any] = json.loads(json.dumps(dict(settings), default=lambda value: value.item()))
    return values


def _trial(run: Any) -> trainer_pb2.Trial:  # noqa: ANN401 - MLflow is not type-checked
    tags = run.data.tags
    trial = trainer_pb2.Trial(
        number=int(tags[_NUMBER]),
        id=run.info.run_id,
        state=_STATES[run.info.status],
        error=tags.get(tracking.ERROR, ""),
    )
    trial.settings.update(json.loads(tags[_SETTINGS]))
    latest = latest_iteration(run.to_proto().data.metrics)
    if latest is not None:
        trial.latest.CopyFrom(latest)
    return trial
