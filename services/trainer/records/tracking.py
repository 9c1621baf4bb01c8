"""What MLflow holds of a run: the one place that knows the names of its tags and metrics.

A run's whole state is kept there (and in Ray's jobs), so the trainer can be restarted at any time. The run's status is
MLflow's own: SCHEDULED, RUNNING, FINISHED, FAILED, KILLED.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, ViewType
from mlflow.exceptions import MlflowException

from steersman.arguments import kwargs_of, to_text
from steersman.environments.choice import wrappers_in_words
from steersman.errors import NotFoundError, UnavailableError
from steersman.quoting import quoted
from steersman.v1 import trainer_pb2

EXPERIMENT = "steersman"

LONGEST_SPEC = 8000
"""Characters that a spec may have as JSON: what MLflow's tags hold."""

SCHEDULED, RUNNING, FINISHED, FAILED, KILLED = "SCHEDULED", "RUNNING", "FINISHED", "FAILED", "KILLED"
FINAL = frozenset({FINISHED, FAILED, KILLED})

ERROR = "steersman.error"
"""Tag of what failed: why, in one sentence."""

_RUN_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")

_POLICY = "steersman.policy"
_SPEC = "steersman.spec"
_WARNING = "steersman.warning"
_VERSION = "steersman.version"
_ATTEMPT = "steersman.attempt"
_RESUMED = "steersman.resumed"
_STOP = "steersman.stop"
_PHASE = "steersman.phase"
_PUBLISHED = "steersman.published"
_BEST_TRIAL = "steersman.best_trial"
_STOPPED = "steersman.stopped"
_COMMIT = "mlflow.source.git.commit"
_LONGEST_SENTENCE = 2000
_LONGEST_PARAMETER = 6000
"""Characters that a parameter may have in MLflow; the spec's tag has all."""

_OPTIONAL_METRICS = (
    "training_return",
    "episode_length",
    "evaluated_return",
    "best_training_return",
    "best_evaluated_return",
    "learner_seconds",
    "sampler_seconds",
    "trial",
    "cut_episodes",
)
_REQUIRED_METRICS = ("steps", "steps_per_second", "seconds")
_METRICS = (*_REQUIRED_METRICS, *_OPTIONAL_METRICS)
"""Metrics are named after the fields of `Iteration`; the step is the iteration."""

_LOSS = "losses/"
"""What the names of losses begin with."""

_WHOLE = frozenset({"steps", "trial", "cut_episodes"})
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
        attempt: Counted from 1; one more each time the run is resumed.
        resumed: When it was resumed last; milliseconds since the epoch, 0 if it never was.
        stop_asked: Whether it was asked to stop, and to export what it has learnt.
        evaluating: Whether it plays what it has learnt.
        warning: What went wrong without ending it, in one sentence.
        git_commit: The commit that it was started from; empty if there is none.
        progressed: When it told of an iteration last; milliseconds since the epoch, 0 before that.
        published: The iteration that the version is of; None before that.
        best_trial: The number of the sweep's trial that became the version; 0 before that.
        was_stopped: Whether the attempt before this one was stopped.
    """

    id: str
    spec: trainer_pb2.RunSpec
    status: str
    error: str
    version: int
    submitted: int
    ended: int
    latest: trainer_pb2.Iteration | None
    attempt: int = 1
    resumed: int = 0
    stop_asked: bool = False
    evaluating: bool = False
    warning: str = ""
    git_commit: str = ""
    progressed: int = 0
    published: trainer_pb2.Iteration | None = None
    best_trial: int = 0
    was_stopped: bool = False


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

    def create(self, spec: trainer_pb2.RunSpec, git_commit: str = "") -> str:
        """Records a new run, as SCHEDULED, and gives its id."""
        with self.reachable():
            experiment = self._experiment(create=True)
            tags = {
                _POLICY: spec.policy,
                _SPEC: spec_json(spec),
            } | ({_COMMIT: git_commit} if git_commit else {})
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
            } | _environment_parameters(spec.environment)
            parameters |= {f"settings.{name}": value for name, value in spec.settings.items()}
            self._client.log_batch(run_id, params=[Param(name, str(value)) for name, value in parameters.items()])
            self._client.update_run(run_id, status=SCHEDULED)
            return run_id

    def delete(self, run_id: str) -> None:
        """Forgets a run that was never submitted."""
        with self.reachable():
            self._client.delete_run(run_id)

    def get(self, run_id: str) -> TrackedRun:
        """Reads a run.

        Raises:
            NotFoundError: If there is no such run, or it is not one of Steersman's.
        """
        with self.reachable(run_id):
            run = self._client.get_run(run_id)
        if _SPEC not in run.data.tags or run.info.lifecycle_stage != "active":
            raise NotFoundError(f"expected the id of a run, got {quoted(run_id)}")
        return _tracked(run)

    def recent(self, policy: str, limit: int) -> list[TrackedRun]:
        """Reads runs, newest first.

        Args:
            policy: Only runs of this policy; empty for all. A valid policy name.
            limit: At most so many.
        """
        with self.reachable():
            experiment = self._experiment(create=False)
            if experiment is None:
                return []
            found = self._client.search_runs(
                [experiment],
                # Trials of sweeps have no policy of their own.
                filter_string=f"tags.`{_POLICY}` = '{policy}'" if policy else f"tags.`{_POLICY}` LIKE '%'",
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
        with self.reachable(run_id):
            recorded = self._client.get_run(run_id).data.metrics
            for name in filter(_is_of_an_iteration, recorded):
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
        if "evaluated_return" in present:
            # Also that all episodes ended: of the same iteration another evaluation may have been told before.
            present.add("cut_episodes")
        names = [*_REQUIRED_METRICS, *(name for name in _OPTIONAL_METRICS if name in present)]
        values = {name: float(getattr(iteration, name)) for name in names}
        values |= {f"{_LOSS}{name}": value for name, value in iteration.losses.items()}
        with self.reachable(run_id):
            self._client.log_batch(
                run_id, metrics=[Metric(name, value, now, iteration.iteration) for name, value in values.items()]
            )

    def start(self, run_id: str) -> None:
        """Marks a run as RUNNING: its job has started."""
        with self.reachable(run_id):
            self._client.update_run(run_id, status=RUNNING)

    def evaluate(self, run_id: str, *, evaluating: bool) -> None:
        """Notes that a run plays what it has learnt, or does not any more."""
        with self.reachable(run_id):
            self._client.set_tag(run_id, _PHASE, "evaluating" if evaluating else "")

    def publish(self, run_id: str, version: int, iteration: trainer_pb2.Iteration) -> None:
        """Notes the newest version that a run has registered, and which iteration that is of."""
        with self.reachable(run_id):
            self._client.set_tag(run_id, _PUBLISHED, json_format.MessageToJson(iteration, indent=None))
            self._client.set_tag(run_id, _VERSION, str(version))

    def choose(self, run_id: str, trial: int) -> None:
        """Notes which trial of a sweep became its version."""
        with self.reachable(run_id):
            self._client.set_tag(run_id, _BEST_TRIAL, str(trial))

    def warn(self, run_id: str, warning: str) -> None:
        """Notes what went wrong without ending a run, in one sentence, beside what did so before."""
        with self.reachable(run_id):
            before = self._client.get_run(run_id).data.tags.get(_WARNING, "")
            if warning not in before:
                together = f"{before}; {warning}" if before else warning
                self._client.set_tag(run_id, _WARNING, together[:_LONGEST_SENTENCE])

    def ask_to_stop(self, run_id: str) -> None:
        """Asks a run's job to stop, and to export what was learnt."""
        with self.reachable(run_id):
            self._client.set_tag(run_id, _STOP, "export")

    def resume(self, run_id: str, attempt: int) -> TrackedRun:
        """Marks a run as SCHEDULED again, for another attempt, and gives it."""
        with self.reachable(run_id):
            was_stopped = self._client.get_run(run_id).info.status == KILLED
            self._client.set_tag(run_id, _STOPPED, "yes" if was_stopped else "")
            for tag in (ERROR, _STOP, _PHASE):
                self._client.set_tag(run_id, tag, "")
            self._client.set_tag(run_id, _ATTEMPT, str(attempt))
            self._client.set_tag(run_id, _RESUMED, str(int(time.time() * _MILLISECONDS)))
            self._client.update_run(run_id, status=SCHEDULED)
        return self.get(run_id)

    def end(self, run_id: str, status: str, error: str = "") -> None:
        """Marks a run as ended.

        Args:
            run_id: The run.
            status: FINISHED, FAILED or KILLED.
            error: Why it failed, in one sentence.
        """
        with self.reachable(run_id):
            self._client.set_tag(run_id, _PHASE, "")
            self._client.set_tag(run_id, ERROR, error[:_LONGEST_SENTENCE])
            self._client.set_terminated(run_id, status)

    def _experiment(self, *, create: bool) -> str | None:
        found = self._client.get_experiment_by_name(EXPERIMENT)
        if found is not None:
            return str(found.experiment_id)
        return str(self._client.create_experiment(EXPERIMENT)) if create else None

    @contextmanager
    def reachable(self, run_id: str | None = None) -> Iterator[None]:
        """Turns MLflow's errors into ours, in a block of calls about one run or about none.

        Raises:
            NotFoundError: If there is no such run.
            UnavailableError: If MLflow cannot be reached.
        """
        # What cannot be an id is not sent, since MLflow answers some of it in ways that it answers nothing else in.
        if run_id is not None and not _RUN_ID.fullmatch(run_id):
            raise NotFoundError(f"expected the id of a run, got {quoted(run_id)}")
        try:
            yield
        except MlflowException as error:
            # An invalid id is one that does not exist.
            if run_id is not None and error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                raise NotFoundError(f"expected the id of a run, got {quoted(run_id)}") from error
            if error.error_code in {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE"}:
                _log.warning("MLflow does not answer: %s", error)
                raise UnavailableError(f"MLflow at {self._url} does not answer") from error
            raise


def _environment_parameters(environment: trainer_pb2.Environment) -> dict[str, str]:
    """Gives an environment's arguments and wrappers, where it has any, as MLflow shows them."""
    found = {"environment_kwargs": to_text(kwargs_of(environment))}
    if environment.wrappers:
        found["wrappers"] = wrappers_in_words(environment.wrappers)
    return {name: text[:_LONGEST_PARAMETER] for name, text in found.items() if text}


def _tracked(run: Any) -> TrackedRun:  # noqa: ANN401 - MLflow is not type-checked
    tags = run.data.tags
    metrics = run.to_proto().data.metrics
    return TrackedRun(
        id=run.info.run_id,
        spec=json_format.Parse(tags[_SPEC], trainer_pb2.RunSpec(), ignore_unknown_fields=True),
        status=run.info.status,
        error=tags.get(ERROR, ""),
        version=int(tags.get(_VERSION, 0)),
        submitted=run.info.start_time,
        ended=(run.info.end_time or 0) if run.info.status in FINAL else 0,
        latest=latest_iteration(metrics),
        attempt=int(tags.get(_ATTEMPT, 1)),
        resumed=int(tags.get(_RESUMED, 0)),
        stop_asked=bool(tags.get(_STOP)),
        evaluating=bool(tags.get(_PHASE)),
        warning=tags.get(_WARNING, ""),
        git_commit=tags.get(_COMMIT, ""),
        published=json_format.Parse(tags[_PUBLISHED], trainer_pb2.Iteration()) if _PUBLISHED in tags else None,
        best_trial=int(tags.get(_BEST_TRIAL, 0)),
        was_stopped=bool(tags.get(_STOPPED)),
        progressed=max((metric.timestamp for metric in metrics if metric.key == "steps"), default=0),
    )


def latest_iteration(metrics: Iterable[Any]) -> trainer_pb2.Iteration | None:
    """Puts the newest iteration together from the newest value of each metric.

    Args:
        metrics: Values with `key`, `value` and `step`. One whose step is older belongs to an earlier iteration.
    """
    newest = [metric for metric in metrics if _is_of_an_iteration(metric.key)]
    step = max((metric.step for metric in newest), default=0)
    values = {metric.key: metric.value for metric in newest if metric.step == step}
    return _iteration(step, values) if values.keys() >= {*_REQUIRED_METRICS} else None


def _is_of_an_iteration(name: str) -> bool:
    """Tells the metrics of iterations from MLflow's own, which are those of the system."""
    return name in _METRICS or name.startswith(_LOSS)


def _iteration(step: int, values: dict[str, float]) -> trainer_pb2.Iteration:
    fields: dict[str, Any] = {
        name: int(value) if name in _WHOLE else value for name, value in values.items() if name in _METRICS
    }
    losses = {name.removeprefix(_LOSS): value for name, value in values.items() if name.startswith(_LOSS)}
    return trainer_pb2.Iteration(iteration=step, losses=losses, **fields)
