"""What is asked of the evaluator, read and checked."""

from __future__ import annotations

import math
from dataclasses import dataclass

from services.common.structs import plain_values
from services.evaluator.comparison import ERROR_RATE, FIRST_LOOK
from services.evaluator.evaluation import Arena
from services.evaluator.players import CONSTANT, RANDOM
from steersman.errors import InvalidArgumentError
from steersman.v1 import evaluator_pb2

DEFAULT_EPISODES = 20
DEFAULT_PAIRS = 100
MAX_EPISODES = 100_000
MAX_ENVIRONMENTS = 1024
DEFAULT_MAX_ENVIRONMENTS = 64
MAX_WORKERS = 64
MAX_REFERENCES = 16
MAX_SEED = 2**64 - 1

WITHOUT_POLICY = frozenset({RANDOM, CONSTANT})
"""References that play without a policy."""


@dataclass(frozen=True)
class Defaults:
    """What requests leave open.

    Attributes:
        gateway_address: The gateway that is asked for actions.
        step_seconds: How long an environment may take for a reset or a step.
        modules: Python modules that register environments of one's own.
    """

    gateway_address: str
    step_seconds: float = 120.0
    modules: tuple[str, ...] = ()


def number_of_episodes(request: evaluator_pb2.EvaluateRequest | evaluator_pb2.CompareRequest) -> int:
    """Gives how many episodes each contestant plays.

    Raises:
        InvalidArgumentError: If there are too few or too many, for a sequential comparison also if its error rate
            would not hold, or there are no seeds for all of them.
    """
    default = DEFAULT_EPISODES if isinstance(request, evaluator_pb2.EvaluateRequest) else DEFAULT_PAIRS
    episodes = request.episodes if request.HasField("episodes") else default
    if not 1 <= episodes <= MAX_EPISODES:
        raise InvalidArgumentError(f"expected 1 to {MAX_EPISODES} episodes, got {episodes}")
    if isinstance(request, evaluator_pb2.CompareRequest) and request.sequential and episodes < FIRST_LOOK:
        raise InvalidArgumentError(
            f"expected at least {FIRST_LOOK} episodes for a sequential comparison, whose error rate would not hold "
            f"with fewer, got {episodes}"
        )
    if request.seed > MAX_SEED - (episodes - 1):
        raise InvalidArgumentError(
            f"expected a seed of at most {MAX_SEED - (episodes - 1)} for {episodes} episodes, got {request.seed}"
        )
    return episodes


def arena_of(
    request: evaluator_pb2.EvaluateRequest | evaluator_pb2.CompareRequest, trained_in: str, defaults: Defaults
) -> Arena:
    """Gives where and how is played.

    Args:
        request: What is asked for.
        trained_in: The environment that the policy was trained in.
        defaults: What the request leaves open.

    Raises:
        InvalidArgumentError: If a number makes no sense.
    """
    if request.num_environments > MAX_ENVIRONMENTS:
        raise InvalidArgumentError(f"expected at most {MAX_ENVIRONMENTS} environments, got {request.num_environments}")
    workers = request.num_workers if isinstance(request, evaluator_pb2.EvaluateRequest) else 0
    if workers > MAX_WORKERS:
        raise InvalidArgumentError(f"expected at most {MAX_WORKERS} workers, got {workers}")
    seconds = request.step_timeout_seconds
    if seconds < 0 or not math.isfinite(seconds):
        raise InvalidArgumentError(f"expected a time limit above 0 for a step, in seconds, got {seconds:g}")
    return Arena(
        gateway_address=defaults.gateway_address,
        environment_id=request.environment_id or trained_in,
        environment_kwargs=plain_values(request.environment_kwargs),
        seed=request.seed,
        num_environments=request.num_environments or DEFAULT_MAX_ENVIRONMENTS,
        num_workers=workers,
        step_seconds=seconds or defaults.step_seconds,
        modules=defaults.modules,
    )


def references(request: evaluator_pb2.EvaluateRequest) -> list[str]:
    """Gives what else plays the same episodes.

    Raises:
        InvalidArgumentError: If there are too many, or one is named twice.
    """
    names = list(request.references)
    if len(names) > MAX_REFERENCES:
        raise InvalidArgumentError(f"expected at most {MAX_REFERENCES} references, got {len(names)}")
    if len(set(names)) < len(names):
        raise InvalidArgumentError(f"expected each reference once, got {', '.join(names)}")
    return names


def error_rate(request: evaluator_pb2.CompareRequest) -> float:
    """Gives the error rate of a comparison.

    Raises:
        InvalidArgumentError: If it is none.
    """
    rate = request.error_rate or ERROR_RATE
    if not 0 < rate < 1:
        raise InvalidArgumentError(f"expected an error rate between 0 and 1, got {rate:g}")
    return rate
