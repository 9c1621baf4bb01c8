"""What happens in a trial after each of its iterations: the honest return, the bundle and the end of the run.

RLlib's training return is no evaluation, so a run never stops on it. When it reaches the target, the policy is exported
and the export is played greedily; only that return counts.
"""

from __future__ import annotations

import importlib.metadata
import logging
import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from ray.rllib.callbacks.callbacks import RLlibCallback

from services.common.bundle import Bundle
from services.common.structs import plain_values
from services.trainer import greedy
from services.trainer.algorithms import find_algorithm
from services.trainer.export import export_bundle, load_checkpoint
from steersman.v1 import trainer_pb2

RESULT = "steersman"
"""Key of Tune's result under which the iteration lies, as JSON."""

EVALUATION_EPISODES = 20
_EVALUATION_SEED = 1_000_000
_PACKAGES = ("steersman", "ray", "torch", "onnx", "onnxruntime", "gymnasium", "numpy")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What a trial has to know of its run.

    Attributes:
        run_id: The run.
        spec: What was asked for, with the defaults filled in.
        folder: Where it may leave things, absolute.
    """

    run_id: str
    spec: trainer_pb2.RunSpec
    folder: Path

    @property
    def bundle(self) -> Path:
        """Where the newest export lies; once the trial has ended, that of its final weights."""
        return self.folder / "bundle"


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
    iteration = trainer_pb2.Iteration(
        iteration=result["training_iteration"],
        steps=steps_of(result),
        seconds=result["time_total_s"],
    )
    training_return = float(episodes.get("episode_return_mean", math.nan))
    if math.isfinite(training_return):
        iteration.training_return = training_return
        iteration.episode_length = float(episodes["episode_len_mean"])
    return iteration


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


class IterationEnd(RLlibCallback):  # type: ignore[misc] # RLlib has no types
    """RLlib calls it after every iteration, in the trial's own process.

    Args:
        plan: The run.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self._plan = plan
        self._steps = 0
        self._evaluate_again = -math.inf

    def on_train_result(self, *, algorithm: Any, result: dict[str, Any], **_: Any) -> None:  # noqa: ANN401
        """Writes the iteration into the result, and ends the trial where a stop criterion is met."""
        stop = self._plan.spec.stop
        iteration = iteration_of(result)
        check_loss(iteration.iteration, result)
        iteration.steps_per_second = (iteration.steps - self._steps) / max(result["time_this_iter_s"], 1e-9)
        self._steps = iteration.steps
        if reached(stop, iteration) or self._looks_good(iteration):
            started = time.monotonic()
            iteration.evaluated_return = self._evaluate(algorithm, iteration)
            # At most half of the time goes into evaluations, however long the training return stays above the target.
            took = time.monotonic() - started
            self._evaluate_again = time.monotonic() + took
            _log.info("evaluated return %.1f, in %.1f s", iteration.evaluated_return, took)
        result[RESULT] = json_format.MessageToDict(iteration, preserving_proto_field_name=True)
        result["done"] = reached(stop, iteration)

    def _looks_good(self, iteration: trainer_pb2.Iteration) -> bool:
        stop = self._plan.spec.stop
        if not stop.HasField("episode_return") or time.monotonic() < self._evaluate_again:
            return False
        if iteration.HasField("training_return"):
            return iteration.training_return >= stop.episode_return
        # Of what learns from recordings only an evaluation can tell.
        return find_algorithm(self._plan.spec.algorithm).learns_from_recordings

    def _evaluate(self, algorithm: Any, iteration: trainer_pb2.Iteration) -> float:  # noqa: ANN401
        bundle = self._export(algorithm, iteration)
        environment = self._plan.spec.environment
        return float(greedy.play(bundle, environment, EVALUATION_EPISODES, _EVALUATION_SEED).mean())

    def _export(self, algorithm: Any, iteration: trainer_pb2.Iteration) -> Bundle:  # noqa: ANN401
        spec = self._plan.spec
        checkpoint = self._plan.folder / "exported-checkpoint"
        algorithm.save_to_path(str(checkpoint))
        return export_bundle(
            load_checkpoint(checkpoint),
            self._plan.bundle,
            environment_id=spec.environment.id,
            algorithm=spec.algorithm,
            provenance={
                "run_id": self._plan.run_id,
                "environment_kwargs": plain_values(spec.environment.kwargs),
                "settings": plain_values(spec.settings),
                "seed": spec.seed,
                "iteration": iteration.iteration,
                "steps": iteration.steps,
                "metrics": {
                    name: getattr(iteration, name)
                    for name in ("training_return", "evaluated_return")
                    if iteration.HasField(name)
                },
                "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
                "exported_at": datetime.now(UTC).isoformat(timespec="seconds"),
            },
        )
