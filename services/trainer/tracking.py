"""What MLflow holds of a run: the one place that knows the names of its tags and metrics.

A run's whole state is kept there (and in Ray's jobs), so the trainer can be restarted at any time. The run's status is
MLflow's own: SCHEDULED, RUNNING, FINISHED, FAILED, KILLED.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, ViewType
from mlflow.exceptions import MlflowException

from steersman.errors import NotFoundError, UnavailableError
from steersman.v1 import trainer_pb2

EXPERIMENT = "steersman"

LONGEST_SPEC = 8000
"""Characters that a spec may have as JSON: what MLflow's tags hold."""

SCHEDULED, RUNNING, FINISHED, FAILED, KILLED = "SCHEDULED", "RUNNING", "FINISHED", "FAILED", "KILLED"
FINAL = frozenset({FINISHED, FAILED, KILLED})

_POLICY = "steersman.policy"
_SPEC = "steersman.spec"
_ERROR = "steersman.error"
_VERSION = "steersman.version"

_OPTIONAL_METRICS = ("training_return", "episode_length", "evaluated_return")
_REQUIRED_METRICS = ("steps", "steps_per_second", "seconds")
_METRICS = (*_REQUIRED_METRICS, *_OPTIONAL_METRICS)
"""Metrics are named after the fields of `Iteration`; the step is the iteration."""

_WHOLE = frozenset({"steps"})
_MILLISECONDS = 1000

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrackedRun:
    """A run as MLflow has it.

    Attributes:
        id: MLflow's run id.
        spec: What was asked for, with the defaults filled in.
        status: MLflow's status.
        error: Why it failed; empty unless it did.
        version: The version that it registered; 0 before that.
        submitted: Milliseconds since the epoch.
        ended: Milliseconds since the epoch; 0 before that.
        latest: The newest iteration, if any.
    """

    id: str
    spec: trainer_pb2.RunSpec
    status: str
    error: str
    version: int
    submitted: int
    ended: int
    latest: trainer_pb2.Iteration | None


def spec_json(spec: trainer_pb2.RunSpec) -> str:
    """Writes a spec as it is recorded."""
    return json_format.MessageToJson(spec, indent=None, preserving_proto_field_name=True)


class Tracking:
    """MLflow's tracking server, in the words of runs and iterations. Calls block.

    Every method raises UnavailableError where the server cannot be reached.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._client = MlflowClient(tracking_uri=url)

    @property
    def client(self) -> MlflowClient:
        """MLflow's own client."""
        return self._client

    def create(self, spec: trainer_pb2.RunSpec) -> str:
        """Records a new run, as SCHEDULED, and gives its id."""
        with self._reachable():
            experiment = self._experiment(create=True)
            tags = {
                _POLICY: spec.policy,
                _SPEC: spec_json(spec),
            }
            name = f"{spec.policy}-{spec.environment.id}-{spec.algorithm}".lower()
            run_id: str = self._client.create_run(experiment, tags=tags, run_name=name).info.run_id
            parameters = {
                "environment": spec.environment.id,
                "algorithm": spec.algorithm,
                "num_env_runners": spec.num_env_runners,
                "num_envs_per_env_runner": spec.num_envs_per_env_runner,
                "num_learners": spec.num_learners,
                "use_gpu": spec.use_gpu,
                "seed": spec.seed,
            } | {f"settings.{name}": value for name, value in spec.settings.items()}
            self._client.log_batch(run_id, params=[Param(name, str(value)) for name, value in parameters.items()])
            self._client.update_run(run_id, status=SCHEDULED)
            return run_id

    def delete(self, run_id: str) -> None:
        """Forgets a run that was never submitted."""
        with self._reachable():
            self._client.delete_run(run_id)

    def get(self, run_id: str) -> TrackedRun:
        """Reads a run.

        Raises:
            NotFoundError: If there is no such run, or it is not one of Steersman's.
        """
        with self._reachable(run_id):
            run = self._client.get_run(run_id)
        if _SPEC not in run.data.tags or run.info.lifecycle_stage != "active":
            raise NotFoundError(f"expected the id of a run, got {run_id!r}")
        return _tracked(run)

    def recent(self, policy: str, limit: int) -> list[TrackedRun]:
        """Reads runs, newest first.

        Args:
            policy: Only runs of this policy; empty for all. A valid policy name.
            limit: At most so many.
        """
        with self._reachable():
            experiment = self._experiment(create=False)
            if experiment is None:
                return []
            found = self._client.search_runs(
                [experiment],
                filter_string=f"tags.`{_POLICY}` = '{policy}'" if policy else "",
                run_view_type=ViewType.ACTIVE_ONLY,
                max_results=limit,
                order_by=["attributes.start_time DESC"],
            )
        return [_tracked(run) for run in found if _SPEC in run.data.tags]

    def iterations(self, run_id: str, after: int) -> list[trainer_pb2.Iteration]:
        """Reads the iterations of a run that come after one, in order.

        Raises:
            NotFoundError: If there is no such run.
        """
        values: dict[int, dict[str, float]] = {}
        with self._reachable(run_id):
            for name in _METRICS:
                for metric in self._client.get_metric_history(run_id, name):
                    if metric.step > after:
                        values.setdefault(metric.step, {})[name] = metric.value
        return [
            _iteration(step, found) for step, found in sorted(values.items()) if found.keys() >= {*_REQUIRED_METRICS}
        ]

    def log(self, run_id: str, iteration: trainer_pb2.Iteration) -> None:
        """Records an iteration, in one request."""
        now = int(time.time() * _MILLISECONDS)
        # Every field that is set, but absent ones only where the proto tells absent from 0.
        present = {field.name for field, _ in iteration.ListFields()}
        names = [*_REQUIRED_METRICS, *(name for name in _OPTIONAL_METRICS if name in present)]
        with self._reachable(run_id):
            self._client.log_batch(
                run_id,
                metrics=[Metric(name, float(getattr(iteration, name)), now, iteration.iteration) for name in names],
            )

    def start(self, run_id: str) -> None:
        """Marks a run as RUNNING: its job has started."""
        with self._reachable(run_id):
            self._client.update_run(run_id, status=RUNNING)

    def finish(self, run_id: str, version: int) -> None:
        """Marks a run as FINISHED, with the version that it registered."""
        with self._reachable(run_id):
            self._client.set_tag(run_id, _VERSION, str(version))
            self._client.set_terminated(run_id, FINISHED)

    def fail(self, run_id: str, error: str) -> None:
        """Marks a run as FAILED.

        Args:
            run_id: The run.
            error: Why, in one sentence.
        """
        with self._reachable(run_id):
            self._client.set_tag(run_id, _ERROR, error)
            self._client.set_terminated(run_id, FAILED)

    def kill(self, run_id: str) -> None:
        """Marks a run as KILLED: it was stopped on request."""
        with self._reachable(run_id):
            self._client.set_terminated(run_id, KILLED)

    def _experiment(self, *, create: bool) -> str | None:
        found = self._client.get_experiment_by_name(EXPERIMENT)
        if found is not None:
            return str(found.experiment_id)
        return str(self._client.create_experiment(EXPERIMENT)) if create else None

    @contextmanager
    def _reachable(self, run_id: str | None = None) -> Iterator[None]:
        """Turns MLflow's errors into ours, in calls about one run or about none."""
        try:
            yield
        except MlflowException as error:
            # An invalid id is one that does not exist.
            if run_id is not None and error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                raise NotFoundError(f"expected the id of a run, got {run_id!r}") from error
            if error.error_code in {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE"}:
                _log.warning("MLflow does not answer: %s", error)
                raise UnavailableError(f"MLflow at {self._url} does not answer") from error
            raise


def _tracked(run: Any) -> TrackedRun:  # noqa: ANN401 - MLflow is not type-checked
    tags = run.data.tags
    return TrackedRun(
        id=run.info.run_id,
        spec=json_format.Parse(tags[_SPEC], trainer_pb2.RunSpec(), ignore_unknown_fields=True),
        status=run.info.status,
        error=tags.get(_ERROR, ""),
        version=int(tags.get(_VERSION, 0)),
        submitted=run.info.start_time,
        ended=run.info.end_time or 0,
        latest=latest_iteration(run.to_proto().data.metrics),
    )


def latest_iteration(metrics: Iterable[Any]) -> trainer_pb2.Iteration | None:
    """Puts the newest iteration together from the newest value of each metric.

    Args:
        metrics: Values with `key`, `value` and `step`. One whose step is older belongs to an earlier iteration.
    """
    newest = [metric for metric in metrics if metric.key in _METRICS]
    step = max((metric.step for metric in newest), default=0)
    values = {metric.key: metric.value for metric in newest if metric.step == step}
    return _iteration(step, values) if values.keys() >= {*_REQUIRED_METRICS} else None


def _iteration(step: int, values: dict[str, float]) -> trainer_pb2.Iteration:
    fields: dict[str, Any] = {name: int(value) if name in _WHOLE else value for name, value in values.items()}
    return trainer_pb2.Iteration(iteration=step, **fields)
