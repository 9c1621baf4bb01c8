"""What happens in a trial after each of its iterations: the honest return, checkpoints, exports and the end of the run.

RLlib's training return is no evaluation, so a run never stops on it. When it reaches the target, the policy is exported
and the export is played greedily; only that return counts.
"""

from __future__ import annotations

import contextlib
import logging
import math
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import json_format
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.tune.result import SHOULD_CHECKPOINT

from services.trainer.algorithms import find_algorithm
from services.trainer.environments.own_returns import OWN_RETURN_MEAN
from services.trainer.job import orders, outcome
from services.trainer.job.plan import Plan
from services.trainer.job.publishing import Export
from services.trainer.job.result_keys import EXPORTED, NUMBER, RESULT, SCORE, STEPS, WORST
from services.trainer.records.tracking import Tracking
from steersman.errors import UnavailableError
from steersman.settings import settings
from steersman.v1 import trainer_pb2

_CHECKPOINT_SECONDS = 10.0
"""Seconds of training between checkpoints: no more than so much is lost if the cluster goes away."""

_LOSSES = ("loss", "entropy")

_log = logging.getLogger(__name__)


def reached(stop: trainer_pb2.StopCriteria, iteration: trainer_pb2.Iteration) -> bool:
    """Tells whether a run ends with an iteration."""
    return bool(
        (stop.iterations and iteration.iteration >= stop.iterations)
        or (stop.steps and iteration.steps >= stop.steps)
        or (stop.seconds and iteration.seconds >= stop.seconds)
        or (
            stop.HasField("episode_return")
            and iteration.HasField("evaluated_return")
            and iteration.evaluated_return >= stop.episode_return
        )
    )


def iteration_of(result: dict[str, Any]) -> trainer_pb2.Iteration:
    """Reads an iteration out of RLlib's result."""
    episodes = result.get("env_runners", {})
    timers = result.get("timers", {})
    iteration = trainer_pb2.Iteration(
        iteration=result["training_iteration"],
        steps=steps_of(result),
        seconds=result["time_total_s"],
        learner_seconds=_finite(timers.get("learner_update_timer", 0.0)),
        sampler_seconds=_finite(timers.get("env_runner_sampling_timer", 0.0)),
        losses=losses_of(result),
    )
    # RLlib's own is a mean over the rewards that came out of the wrappers, if there are any.
    training_return = float(episodes.get(OWN_RETURN_MEAN, episodes.get("episode_return_mean", math.nan)))
    if math.isfinite(training_return):
        iteration.training_return = training_return
        iteration.episode_length = float(episodes["episode_len_mean"])
    return iteration


def _finite(value: float) -> float:
    """Gives a number, or 0 for one that there is none of yet."""
    return float(value) if math.isfinite(value) else 0.0


def losses_of(result: dict[str, Any]) -> dict[str, float]:
    """Reads the losses, and the entropy, of the policy's learner."""
    learner = result.get("learners", {}).get("default_policy", {})
    found = {name: learner[name] for name in learner if name.endswith(_LOSSES)}
    return {name: float(value) for name, value in found.items() if math.isfinite(float(value))}


def steps_of(result: dict[str, Any]) -> int:
    """Reads how many steps were sampled so far; or learnt from, by an algorithm that learns from recordings."""
    learnt = result.get("learners", {}).get("__all_modules__", {}).get("num_env_steps_trained_lifetime", 0)
    return int(result.get("num_env_steps_sampled_lifetime", 0) or learnt)


def check_loss(iteration: int, result: dict[str, Any]) -> None:
    """Checks that a run still learns.

    Raises:
        FloatingPointError: If the loss of a learner is not a finite number: its weights never recover from that.
    """
    for module, learner in result.get("learners", {}).items():
        loss = float(learner.get("total_loss", 0.0))
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the loss of {module} was {loss} in iteration {iteration}; a smaller lr or a grad_clip may help"
            )


def check_weights(iteration: int, modules: Mapping[str, Mapping[str, Any]]) -> None:
    """Checks weights before they are kept: a loss is computed before the step that breaks them.

    Args:
        iteration: The iteration that they are of.
        modules: The weights of each module, by their names.

    Raises:
        FloatingPointError: If one is not a finite number.
    """
    for weights in modules.values():
        for name, values in weights.items():
            if not np.isfinite(np.asarray(values)).all():
                raise FloatingPointError(
                    f"weights ({name}) were not finite after iteration {iteration}, whatever the loss was before; a "
                    "smaller lr or a grad_clip may help"
                )


class IterationEnd(RLlibCallback):  # type: ignore[misc] # RLlib has no types
    """RLlib calls it after every iteration, in the trial's own process.

    Args:
        plan: The run.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self._plan = plan
        self._steps: int | None = None
        self._best = trainer_pb2.Iteration()
        self._evaluate_again = -math.inf
        self._checkpointed = -math.inf

    def on_algorithm_init(self, *, algorithm: Any, **_: Any) -> None:  # noqa: ANN401 - RLlib's signature
        """Takes over the weights that the run starts from."""
        if self._plan.start is not None:
            warm_start(algorithm, self._plan.start, with_optimizer=self._plan.run.spec.warm_start.with_optimizer)

    def on_checkpoint_loaded(self, **_: Any) -> None:  # noqa: ANN401 - RLlib's signature
        """Goes on where the trial was."""
        if self._plan.memory.is_file():
            self._best = json_format.Parse(self._plan.memory.read_text(), trainer_pb2.Iteration())

    def on_train_result(self, *, algorithm: Any, result: dict[str, Any], **_: Any) -> None:  # noqa: ANN401
        """Writes the iteration into the result, and ends the trial where a stop criterion is met."""
        spec = self._plan.run.spec
        iteration = iteration_of(result)
        check_loss(iteration.iteration, result)
        before = self._best.steps if self._steps is None else self._steps
        # A trial of a population may go on from another's checkpoint, which has made fewer steps.
        iteration.steps_per_second = max(0, iteration.steps - before) / max(result["time_this_iter_s"], 1e-9)
        self._steps = iteration.steps
        self._note_best(iteration)
        ends = reached(spec.stop, iteration) or orders.stop_is_ordered()
        every = spec.publishing.every_iterations
        publishes = bool(every and iteration.iteration % every == 0)
        evaluates = ends or publishes or self._looks_good(iteration)
        checkpoints = evaluates or time.monotonic() - self._checkpointed > _CHECKPOINT_SECONDS
        if checkpoints:
            check_weights(iteration.iteration, algorithm.learner_group.get_weights())
        if evaluates:
            started = time.monotonic()
            exported = self._export(algorithm, iteration)
            iteration.CopyFrom(exported.iteration)
            # At most half of the time goes into evaluations, however long the training return stays above the target.
            took = time.monotonic() - started
            self._evaluate_again = time.monotonic() + took
            _log.info("evaluated return %.1f, in %.1f s", iteration.evaluated_return, took)
        ends = ends or reached(spec.stop, iteration)
        self._best.CopyFrom(iteration)
        result[RESULT] = json_format.MessageToDict(iteration, preserving_proto_field_name=True)
        result[SCORE] = iteration.training_return if iteration.HasField("training_return") else WORST
        result[NUMBER] = self._plan.trial
        result[STEPS] = iteration.steps
        result[EXPORTED] = ends or publishes
        result["done"] = ends
        if checkpoints:
            self._checkpointed = time.monotonic()
            result[SHOULD_CHECKPOINT] = True
            self._plan.memory.write_text(json_format.MessageToJson(iteration, indent=None))

    def _note_best(self, iteration: trainer_pb2.Iteration) -> None:
        if self._best.HasField("best_evaluated_return"):
            iteration.best_evaluated_return = self._best.best_evaluated_return
        returns = [
            value
            for value, there in (
                (self._best.best_training_return, self._best.HasField("best_training_return")),
                (iteration.training_return, iteration.HasField("training_return")),
            )
            if there
        ]
        if returns:
            iteration.best_training_return = max(returns)

    def _looks_good(self, iteration: trainer_pb2.Iteration) -> bool:
        stop = self._plan.run.spec.stop
        if not stop.HasField("episode_return") or time.monotonic() < self._evaluate_again:
            return False
        if iteration.HasField("training_return"):
            return iteration.training_return >= stop.episode_return
        # Of what learns from recordings only an evaluation can tell.
        return find_algorithm(self._plan.run.spec.algorithm).learns_from_recordings

    def _export(self, algorithm: Any, iteration: trainer_pb2.Iteration) -> Export:  # noqa: ANN401
        where = self._plan.exported(iteration)
        # What was to be published of earlier exports is in MLflow by now.
        shutil.rmtree(where.bundle.parent.parent, ignore_errors=True)
        where.checkpoint.mkdir(parents=True, exist_ok=True)
        algorithm.save_to_path(str(where.checkpoint))
        # Of a sweep, other trials train meanwhile.
        with contextlib.nullcontext() if self._plan.trial else _told(self._plan.run.id):
            evaluated = outcome.export(self._plan.run, iteration, where.checkpoint, where.bundle)
        return Export(evaluated, where.bundle, where.checkpoint)


@contextlib.contextmanager
def _told(run_id: str) -> Iterator[None]:
    """Tells MLflow that the run is being evaluated, as long as a block lasts; if MLflow is away, nobody is told."""
    tracking = Tracking(settings().mlflow_url)
    with contextlib.suppress(UnavailableError):
        tracking.evaluate(run_id, evaluating=True)
    try:
        yield
    finally:
        with contextlib.suppress(UnavailableError):
            tracking.evaluate(run_id, evaluating=False)


def warm_start(algorithm: Any, checkpoint: Path, *, with_optimizer: bool) -> None:  # noqa: ANN401 - RLlib has no types
    """Takes over what a checkpoint has learnt.

    Args:
        algorithm: RLlib's algorithm, of the same kind and with the same network for `with_optimizer`.
        checkpoint: An algorithm's checkpoint. It holds pickles: loading it runs code.
        with_optimizer: Whether to take over the state of the optimisers as well.

    Raises:
        FileNotFoundError: If it is no checkpoint of an algorithm.
        RuntimeError: If the networks differ.
    """
    learner = "learner_group" if with_optimizer else "learner_group/learner/rl_module"
    algorithm.restore_from_path(str(checkpoint / learner), component=learner)
    connector = "env_runner/env_to_module_connector"
    if (checkpoint / connector).is_dir() and algorithm.env_runner is not None:
        # Filters that normalise observations have learnt too.
        algorithm.restore_from_path(str(checkpoint / connector), component=connector)
    if algorithm.env_runner_group is not None:
        algorithm.env_runner_group.sync_weights(from_worker_or_learner_group=algorithm.learner_group)
