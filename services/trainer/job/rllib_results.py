"""What RLlib says of an iteration: read, and checked for whether the run still learns."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from services.trainer.environments.own_returns import OWN_RETURN_MEAN
from steersman.v1 import trainer_pb2

_LOSSES = ("loss", "entropy")


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
