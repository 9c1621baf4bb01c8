"""What is asked of the evaluator, read and checked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from services.common.code import kept_code
from services.common.episodes import Limits
from services.evaluator.judge.comparison import ERROR_RATE, FIRST_LOOK
from services.evaluator.play.environment_making import Recipe
from services.evaluator.play.evaluation import Arena
from services.evaluator.play.players import CONSTANT, RANDOM
from services.evaluator.workers.user_code import LocalCode, unpack_code
from steersman.aio import PolicyInfo
from steersman.arguments import from_message, kwargs_of
from steersman.environments.choice import chosen, takes_recorded
from steersman.errors import FailedPreconditionError, InvalidArgumentError
from steersman.quoting import quoted, quoted_names
from steersman.v1 import evaluator_pb2, trainer_pb2

DEFAULT_EPISODES = 20
DEFAULT_PAIRS = 100
MAX_EPISODES = 100_000
MAX_ENVIRONMENTS = 1024
DEFAULT_MAX_ENVIRONMENTS = 64
MAX_WORKERS = 64
MAX_REFERENCES = 16
MAX_VIDEOS = 16
MAX_SEED = 2**64 - 1

LONGEST_EPISODE_STEPS = 30_000
"""More than what any of Gymnasium's and Atari's own time limits allow."""
Request = evaluator_pb2.EvaluateRequest | evaluator_pb2.CompareRequest

WITHOUT_POLICY = frozenset({RANDOM, CONSTANT})
"""References that play without a policy."""


@dataclass(frozen=True)
class Defaults:
    """What requests leave open.

    Attributes:
        gateway_address: The gateway that is asked for actions.
        step_seconds: How long an environment may take for a reset or a step.
        modules: Python modules that register environments of one's own.
        code_folder: Where copies of users' own code are kept.
        trainer_code_folder: Where the trainer beside this evaluator keeps what its runs came with.
        ray_address: Ray's head, for evaluations on a cluster.
    """

    gateway_address: str
    step_seconds: float = 120.0
    modules: tuple[str, ...] = ()
    code_folder: Path = Path("var/evaluator_code")
    trainer_code_folder: Path = Path("var/code")
    ray_address: str = "127.0.0.1:6379"


def number_of_episodes(request: Request) -> int:
    """Gives how many episodes each contestant plays.

    Raises:
        InvalidArgumentError: If there are too few or too many, for a sequential comparison also if its error rate
            would not hold, or there are no seeds for all of them.
    """
    default = DEFAULT_EPISODES if isinstance(request, evaluator_pb2.EvaluateRequest) else DEFAULT_PAIRS
    episodes = request.episodes if request.HasField("episodes") else default
    if not 1 <= episodes <= MAX_EPISODES:
        raise InvalidArgumentError(f"expected 1 to {MAX_EPISODES} episodes, got {episodes}")
    by_student = (
        isinstance(request, evaluator_pb2.CompareRequest)
        and request.sequential
        and not request.HasField("return_bounds")
    )
    if by_student and episodes < FIRST_LOOK:
        raise InvalidArgumentError(
            f"expected at least {FIRST_LOOK} episodes for a sequential comparison without bounds of returns, since its "
            f"error rate would not hold with fewer, got {episodes}"
        )
    if request.seed > MAX_SEED - (episodes - 1):
        raise InvalidArgumentError(
            f"expected a seed of at most {MAX_SEED - (episodes - 1)} for {episodes} episodes, got {request.seed}"
        )
    return episodes


def code_of(request: Request, info: PolicyInfo, defaults: Defaults) -> LocalCode:
    """Makes the user's own code ready: what the request brings, or else what the environment needs. This blocks.

    Args:
        request: What is asked for.
        info: The version whose environment is played.
        defaults: Where code is kept.

    Raises:
        InvalidArgumentError: See `unpack_code`.
        FailedPreconditionError: If the environment needs code that is not at hand.
    """
    if request.HasField("code"):
        return unpack_code(request.code, defaults.code_folder)
    wanted = info.spec.environment.code_sha256
    if not wanted or not takes_recorded(info.spec, request.environment_id, as_given=request.environment_as_given):
        return LocalCode()
    kept = kept_code(wanted, (defaults.code_folder, defaults.trainer_code_folder))
    if kept is None:
        raise FailedPreconditionError(
            f"{info.name}:{info.version} was trained in {quoted(info.spec.environment_id)} with code of its own "
            f"(SHA-256 {wanted[:16]}...), which is not at hand here: give its folder as `code` (--working-dir or "
            "--py-module)"
        )
    return unpack_code(kept, defaults.code_folder)


def arena_of(request: Request, info: PolicyInfo, code: LocalCode, defaults: Defaults) -> Arena:
    """Gives where and how is played.

    Args:
        request: What is asked for.
        info: The version whose environment is played.
        code: The user's own, ready to be imported.
        defaults: What the request leaves open.

    Raises:
        InvalidArgumentError: If a number makes no sense, or the environment is none that may be played.
    """
    if request.num_environments > MAX_ENVIRONMENTS:
        raise InvalidArgumentError(f"expected at most {MAX_ENVIRONMENTS} environments, got {request.num_environments}")
    workers = request.num_workers if isinstance(request, evaluator_pb2.EvaluateRequest) else 0
    if workers > MAX_WORKERS:
        raise InvalidArgumentError(f"expected at most {MAX_WORKERS} workers, got {workers}")
    on_cluster = isinstance(request, evaluator_pb2.EvaluateRequest) and request.on_cluster
    seconds = request.step_timeout_seconds
    if seconds < 0 or not math.isfinite(seconds):
        raise InvalidArgumentError(f"expected a time limit above 0 for a step, in seconds, got {seconds:g}")
    limits = limits_of(request)
    return Arena(
        gateway_address=defaults.gateway_address,
        recipe=Recipe(_environment(request, info, code), code, defaults.modules),
        seed=request.seed,
        num_environments=request.num_environments or DEFAULT_MAX_ENVIRONMENTS,
        num_workers=workers,
        step_seconds=seconds or defaults.step_seconds,
        ray_address=defaults.ray_address if on_cluster else "",
        limits=limits,
    )


def limits_of(request: Request) -> Limits:
    """Gives when episodes are cut.

    Raises:
        InvalidArgumentError: If a time makes no sense.
    """
    seconds = request.longest_seconds
    if seconds < 0 or not math.isfinite(seconds):
        raise InvalidArgumentError(f"expected longest_seconds of at least 0, got {seconds:g}")
    return Limits(request.longest_episode_steps or LONGEST_EPISODE_STEPS, seconds)


def _environment(request: Request, info: PolicyInfo, code: LocalCode) -> trainer_pb2.Environment:
    environment = chosen(
        info.spec,
        request.environment_id,
        from_message(request.environment_kwargs, request.environment_kwargs_json),
        request.wrappers,
        as_given=request.environment_as_given,
    )
    if not environment.id:
        raise InvalidArgumentError(
            f"expected the id of an environment, since {info.name}:{info.version} does not say which one it was "
            "trained in, got none"
        )
    if ":" in environment.id and not code.sha256:
        # Making it would import any module that is named.
        raise InvalidArgumentError(
            f"expected a registered Gymnasium environment, got {quoted(environment.id)}; an id with a module is for an "
            "environment of your own, which comes with `code`"
        )
    for wrapper in environment.wrappers:
        kwargs_of(wrapper)
    return environment


def references(request: evaluator_pb2.EvaluateRequest) -> list[str]:
    """Gives what else plays the same episodes.

    Raises:
        InvalidArgumentError: If there are too many, or one is named twice.
    """
    names = list(request.references)
    if len(names) > MAX_REFERENCES:
        raise InvalidArgumentError(f"expected at most {MAX_REFERENCES} references, got {len(names)}")
    if len(set(names)) < len(names):
        raise InvalidArgumentError(f"expected each reference once, got {quoted_names(names)}")
    return names


def number_of_videos(request: evaluator_pb2.EvaluateRequest) -> int:
    """Gives how many episodes are filmed.

    Raises:
        InvalidArgumentError: If there are too many, or there is no report to keep them with.
    """
    if request.videos > MAX_VIDEOS:
        raise InvalidArgumentError(f"expected at most {MAX_VIDEOS} videos, got {request.videos}")
    if request.videos and not request.record:
        raise InvalidArgumentError(
            f"expected a report that is kept, which its {request.videos} videos are kept with, got `record` unset"
        )
    return request.videos


def return_bounds(request: evaluator_pb2.CompareRequest) -> tuple[float, float] | None:
    """Gives what every return is within; None if that is not known.

    Raises:
        InvalidArgumentError: If these are no bounds.
    """
    if not request.HasField("return_bounds"):
        return None
    low, high = request.return_bounds.low, request.return_bounds.high
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InvalidArgumentError(f"expected bounds of returns, the lower one first, got {low:g} and {high:g}")
    return low, high


def error_rate(request: evaluator_pb2.CompareRequest) -> float:
    """Gives the error rate of a comparison.

    Raises:
        InvalidArgumentError: If it is none.
    """
    rate = request.error_rate or ERROR_RATE
    if not 0 < rate < 1:
        raise InvalidArgumentError(f"expected an error rate between 0 and 1, got {rate:g}")
    return rate
