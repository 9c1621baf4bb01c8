"""What a run must look like before anything is started for it."""

from __future__ import annotations

import math
import re
import secrets

from services.trainer.cluster.resources import check_resources
from services.trainer.environments.environment_spaces import EnvironmentSpaces, spaces_of
from services.trainer.export.exportable import check_spaces
from services.trainer.job.evaluation_settings import complete_evaluation
from services.trainer.records.tracking import LONGEST_SPEC, spec_json
from steersman.arguments import kwargs_of, plain_values, set_kwargs
from steersman.environments.choice import check_recordable
from steersman.errors import InvalidArgumentError
from steersman.quoting import quoted
from steersman.v1 import trainer_pb2

_POLICY = re.compile(r"[a-z0-9_-]{1,64}")


def check_policy_name(name: str) -> None:
    """Checks a policy's name.

    Raises:
        InvalidArgumentError: Unless it is made of lower-case letters, digits, '-' and '_', at most 64.
    """
    if not _POLICY.fullmatch(name):
        raise InvalidArgumentError(
            f"expected a policy name of 1 to 64 lower-case letters, digits, '-' and '_', got {quoted(name)}"
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


def check_request(spec: trainer_pb2.RunSpec) -> None:
    """Checks what can be told of a run without its environment.

    Raises:
        InvalidArgumentError: If the run could not work as it was asked for.
    """
    check_policy_name(spec.policy)
    check_stop(spec.stop)
    check_recordable(spec.environment)
    complete_evaluation(spec.evaluation)
    # RLlib is imported only when the first run is asked for.
    from services.trainer.algorithms import find_algorithm

    algorithm = find_algorithm(spec.algorithm)
    if algorithm.learns_from_recordings:
        _check_recordings(algorithm.name, spec)
    elif spec.dataset:
        raise InvalidArgumentError(
            f"expected no dataset for {algorithm.name}, which samples the environment itself, "
            f"got {quoted(spec.dataset)}"
        )
    check_resources(spec)
    if ":" in spec.environment.id and not spec.HasField("code"):
        # gymnasium.make would import any module that "module:id" names.
        raise InvalidArgumentError(
            f"expected a registered Gymnasium environment, got {quoted(spec.environment.id)}; "
            "an id with a module is for an environment of your own, which comes with `code`"
        )


def _check_recordings(algorithm: str, spec: trainer_pb2.RunSpec) -> None:
    from services.trainer.environments.recordings import open_dataset

    if not spec.dataset:
        raise InvalidArgumentError(
            f"expected a dataset for {algorithm}, which learns from recorded episodes, got none; "
            "`steersman record` makes one"
        )
    if spec.num_env_runners or spec.num_learners:
        raise InvalidArgumentError(
            f"expected num_env_runners and num_learners of 0 for {algorithm}, which keeps its dataset in the trial's "
            f"own process, got {spec.num_env_runners} and {spec.num_learners}"
        )
    if spec.stop.HasField("episode_return") and not (spec.stop.iterations or spec.stop.steps or spec.stop.seconds):
        raise InvalidArgumentError(
            f"expected stop.iterations, stop.steps or stop.seconds besides stop.episode_return for {algorithm}: what "
            "can be learnt from a dataset is bounded"
        )
    open_dataset(spec.dataset)


def complete(
    spec: trainer_pb2.RunSpec, spaces: EnvironmentSpaces | None = None
) -> tuple[trainer_pb2.RunSpec, list[dict[str, float]]]:
    """Checks a run and fills in the defaults. Blocks; the first call imports RLlib.

    Args:
        spec: What was asked for.
        spaces: The environment's spaces; None makes it once, in this process, to see them.

    Returns:
        The same with every default filled in, and the resources that Ray has to set aside for each of its processes.

    Raises:
        InvalidArgumentError: If the run could not work as it was asked for.
        FailedPreconditionError: If its environment needs a package that is not installed.
    """
    check_request(spec)
    from services.trainer import algorithms
    from services.trainer.job.sweeps.request import check_sweep, examples

    spaces = spaces or spaces_of(spec.environment)
    check_spaces(spaces.observation, spaces.action)
    algorithm = algorithms.find_algorithm(spec.algorithm)
    completed = trainer_pb2.RunSpec()
    completed.CopyFrom(spec)
    # In both forms: with the types of numbers, and for those who read no text.
    set_kwargs(completed.environment, kwargs_of(spec.environment))
    for wrapper in completed.environment.wrappers:
        set_kwargs(wrapper, kwargs_of(wrapper))
    completed.settings.Clear()
    completed.settings.update(algorithms.complete_settings(algorithm, plain_values(spec.settings), spec.training))
    if not spec.HasField("num_env_runners"):
        completed.num_env_runners = algorithm.num_env_runners
    if not spec.num_envs_per_env_runner:
        completed.num_envs_per_env_runner = algorithm.num_envs_per_env_runner
    if not spec.HasField("seed"):
        completed.seed = secrets.randbits(31)
    completed.evaluation.CopyFrom(complete_evaluation(spec.evaluation))
    if spec.HasField("sweep"):
        check_sweep(spec)
    if (length := len(spec_json(completed))) > LONGEST_SPEC:
        raise InvalidArgumentError(f"expected a spec of at most {LONGEST_SPEC} characters as JSON, got {length}")
    checked = completed
    if spec.HasField("code") and _has_own_parts(spec):
        # Those are not on this process's path; whether they can be built shows where they are.
        checked = trainer_pb2.RunSpec()
        checked.CopyFrom(completed)
        checked.module_class = ""
        checked.ClearField("callbacks")
        checked.connectors.ClearField("env_to_module")
        checked.connectors.ClearField("module_to_env")
    for example in examples(checked):
        config = algorithms.build_config(example, spaces)
        if checked is completed:
            algorithms.check_model(example, spaces)
    return completed, algorithms.bundles(config)


def _has_own_parts(spec: trainer_pb2.RunSpec) -> bool:
    """Tells whether a run names classes by their import path."""
    connectors = spec.connectors
    return bool(spec.module_class or spec.callbacks or connectors.env_to_module or connectors.module_to_env)
