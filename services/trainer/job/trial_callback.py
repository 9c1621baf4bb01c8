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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.tune.result import SHOULD_CHECKPOINT

from services.common.files import write_whole
from services.trainer.algorithms import find_algorithm
from services.trainer.job import orders, outcome, phases
from services.trainer.job.plan import Plan
from services.trainer.job.publishing import Export
from services.trainer.job.result_keys import CLAIMED, EXPORTED, NUMBER, RESULT, RETURN, SCORE, STEPS, WORST
from services.trainer.job.rllib_results import check_loss, check_weights, iteration_of
from services.trainer.records.tracking import Tracking
from steersman.errors import UnavailableError
from steersman.settings import settings
from steersman.v1 import trainer_pb2

_CHECKPOINT_SECONDS = 10.0
"""Seconds of training between checkpoints: no more than so much is lost if the cluster goes away."""

_log = logging.getLogger(__name__)


def reached(stop: trainer_pb2.StopCriteria, iteration: trainer_pb2.Iteration) -> bool:
    """Tells whether a run ends with an iteration."""
    return bool(
        (stop.iterations and iteration.iteration >= stop.iterations)
        or (stop.steps and iteration.steps >= stop.steps)
        or (stop.seconds and iteration.seconds >= stop.seconds)
        or reached_target(stop, iteration)
    )


def reached_target(stop: trainer_pb2.StopCriteria, iteration: trainer_pb2.Iteration) -> bool:
    """Tells whether an iteration was evaluated, and reached the return that was asked for."""
    return bool(
        stop.HasField("episode_return")
        and iteration.HasField("evaluated_return")
        # Of an episode that has not ended nobody knows what its return will be.
        and not iteration.cut_episodes
        and iteration.evaluated_return >= stop.episode_return
    )


def is_due(every: int, iteration: int) -> bool:
    """Tells whether what is done every so many iterations is done in this one; 0 is never."""
    return bool(every) and iteration % every == 0


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
        # One that was lost may have said that it evaluates.
        phases.ended(self._plan.trial)
        if self._plan.start is not None:
            warm_start(algorithm, self._plan.start, with_optimizer=self._plan.run.spec.warm_start.with_optimizer)

    def on_env_runners_recreated(self, *, env_runner_indices: list[int], **_: Any) -> None:  # noqa: ANN401
        """Says that the run has lost something, and goes on."""
        _log.warning("environment runners %s were lost and started again", env_runner_indices)
        with contextlib.suppress(UnavailableError):
            Tracking(settings().mlflow_url).warn(
                self._plan.run.id, "processes of environments were lost and started again"
            )

    def on_checkpoint_loaded(self, **_: Any) -> None:  # noqa: ANN401 - RLlib's signature
        """Goes on where the trial was."""
        self._best.CopyFrom(read_memory(self._plan.memory))

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
        publishes = is_due(spec.publishing.every_iterations, iteration.iteration)
        asked = is_due(spec.evaluation.every_iterations, iteration.iteration)
        evaluates = ends or publishes or asked or self._looks_good(iteration)
        checkpoints = evaluates or time.monotonic() - self._checkpointed > _CHECKPOINT_SECONDS
        if checkpoints:
            check_weights(iteration.iteration, algorithm.learner_group.get_weights())
        if evaluates:
            started = time.monotonic()
            with self._evaluating():
                exported = self._export(algorithm, iteration)
                iteration.CopyFrom(exported.iteration)
                if publishes and spec.stop.HasField("episode_return") and not (ends or reached(spec.stop, iteration)):
                    # That return decided that the run goes on, so it is not the one to claim.
                    claimed = outcome.evaluate_again(self._plan.run, exported)
                    result[CLAIMED] = _as_json(claimed.iteration)
            # At most half of the time goes into evaluations, however long the training return stays above the target.
            took = time.monotonic() - started
            self._evaluate_again = time.monotonic() + took
            _log.info("evaluated return %.1f, in %.1f s", iteration.evaluated_return, took)
        ends = ends or reached(spec.stop, iteration)
        self._best.CopyFrom(iteration)
        result[RESULT] = _as_json(iteration)
        if iteration.HasField("training_return"):
            result[RETURN] = iteration.training_return
        result[SCORE] = result.get(RETURN, WORST)
        result[NUMBER] = self._plan.trial
        result[STEPS] = iteration.steps
        result[EXPORTED] = ends or publishes
        result["done"] = ends
        if checkpoints:
            self._checkpointed = time.monotonic()
            result[SHOULD_CHECKPOINT] = True
            write_whole(self._plan.memory, json_format.MessageToJson(iteration, indent=None).encode())

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
        evaluated = outcome.export(self._plan.run, iteration, where.checkpoint, where.bundle)
        return Export(evaluated, where.bundle, where.checkpoint)

    @contextlib.contextmanager
    def _evaluating(self) -> Iterator[None]:
        # Of a sweep, other trials train meanwhile.
        told = contextlib.nullcontext() if self._plan.trial else _told(self._plan.run.id)
        with told, phases.evaluating(self._plan.trial):
            yield


def read_memory(path: Path) -> trainer_pb2.Iteration:
    """Reads the iteration of a trial's last checkpoint; an empty one if there is none, or nobody can read it."""
    try:
        return json_format.Parse(path.read_text(), trainer_pb2.Iteration())
    except FileNotFoundError:
        pass
    except (OSError, ValueError, json_format.ParseError):
        # What was best so far is for display only: no reason not to go on.
        _log.warning("cannot read %s: what was best before is not known any more", path, exc_info=True)
    return trainer_pb2.Iteration()


def _as_json(iteration: trainer_pb2.Iteration) -> dict[str, Any]:
    return json_format.MessageToDict(iteration, preserving_proto_field_name=True)


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
