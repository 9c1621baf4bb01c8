"""What a run must look like before anything is started for it."""

from __future__ import annotations

import difflib
import math
import re
import secrets

from services.common.structs import plain_values
from services.trainer.environments import spaces_of
from services.trainer.exportable import check_spaces
from services.trainer.tracking import LONGEST_SPEC, spec_json
from steersman.errors import InvalidArgumentError
from steersman.v1 import trainer_pb2

_POLICY = re.compile(r"[a-z0-9_-]{1,64}")
_DEFAULT_ENV_RUNNERS = 1
_DEFAULT_ENVS_PER_ENV_RUNNER = 16


def check_policy_name(name: str) -> None:
    """Checks a policy's name.

    Raises:
        InvalidArgumentError: Unless it is made of lower-case letters, digits, '-' and '_', at most 64.
    """
    if not _POLICY.fullmatch(name):
        raise InvalidArgumentError(
            f"expected a policy name of 1 to 64 lower-case letters, digits, '-' and '_', got {name!r}"
        )


def check_stop(stop: trainer_pb2.StopCriteria) -> None:
    """Checks when a run ends.

    Raises:
        InvalidArgumentError: If it never would, or a criterion is not a number that can be reached.
    """
    if not math.isfinite(stop.episode_return):
        raise InvalidArgumentError(f"expected a finite stop.episode_return, got {stop.episode_return}")
    if not (math.isfinite(stop.seconds) and stop.seconds >= 0):
        raise InvalidArgumentError(f"expected stop.seconds of at least 0, got {stop.seconds}")
    if not (stop.iterations or stop.steps or stop.seconds or stop.HasField("episode_return")):
        raise InvalidArgumentError(
            "expected at least one stop criterion (iterations, episode_return, steps or seconds), got none"
        )


def complete(spec: trainer_pb2.RunSpec) -> tuple[trainer_pb2.RunSpec, list[dict[str, float]]]:
    """Checks a run and fills in the defaults. Blocks; the first call imports RLlib.

    Args:
        spec: What was asked for.

    Returns:
        The same with every default filled in, and the resources that Ray has to set aside for each of its processes.

    Raises:
        InvalidArgumentError: If the run could not work as it was asked for.
        FailedPreconditionError: If the environment needs a package that is not installed.
    """
    check_policy_name(spec.policy)
    check_stop(spec.stop)
    observation_space, action_space = spaces_of(spec.environment.id, plain_values(spec.environment.kwargs))
    check_spaces(observation_space, action_space)

    # Takes seconds, which the service must not spend before it listens.
    from services.trainer import algorithms

    if spec.algorithm not in algorithms.ALGORITHMS:
        near = difflib.get_close_matches(spec.algorithm.upper(), algorithms.ALGORITHMS)
        hint = f"; near match: {near[0]}" if near else ""
        raise InvalidArgumentError(
            f"expected an algorithm among {', '.join(algorithms.ALGORITHMS)}, got {spec.algorithm!r}{hint}"
        )
    completed = trainer_pb2.RunSpec()
    completed.CopyFrom(spec)
    completed.settings.Clear()
    completed.settings.update(algorithms.complete_settings(plain_values(spec.settings)))
    if not spec.HasField("num_env_runners"):
        completed.num_env_runners = _DEFAULT_ENV_RUNNERS
    if not spec.num_envs_per_env_runner:
        completed.num_envs_per_env_runner = _DEFAULT_ENVS_PER_ENV_RUNNER
    if not spec.HasField("seed"):
        completed.seed = secrets.randbits(31)
    if (length := len(spec_json(completed))) > LONGEST_SPEC:
        raise InvalidArgumentError(f"expected a spec of at most {LONGEST_SPEC} characters as JSON, got {length}")
    config = algorithms.build_config(completed)
    algorithms.check_model(completed)
    return completed, algorithms.bundles(config)
