"""From a run's spec to RLlib's config."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import Any

import gymnasium
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.core.rl_module.rl_module import RLModule, RLModuleSpec
from ray.tune import register_env

from services.trainer.algorithms.catalogue import Algorithm, find_algorithm
from services.trainer.algorithms.connectors import Pieces, pieces_of
from services.trainer.algorithms.own_parts import find_class, own_callbacks
from services.trainer.algorithms.settings import MODEL, complete_settings, grouped
from services.trainer.environments.environment_spaces import EnvironmentSpaces, spaces_of
from services.trainer.environments.own_returns import OwnReturns
from services.trainer.environments.recordings import offline_settings
from services.trainer.environments.watched_environment import make_watched
from services.trainer.export.image_scaling import is_image
from steersman.arguments import plain_values
from steersman.errors import InvalidArgumentError
from steersman.settings import settings
from steersman.v1 import trainer_pb2

_FILTERS_HINT = (
    "; for pictures of any size, conv_filters has the channels, the kernel and the stride of each layer, such as "
    "--set 'conv_filters=[[16, 3, 2], [32, 3, 2]]'"
)
RUNNER_RESTARTS = 3
"""How often the process of an environment runner is started again, in each attempt at its trial."""

TRIAL_IN_CONTEXT = "steersman_trial"
"""Key of RLlib's `env_config` with the number of the trial whose environments they are, so that they can say so."""

CPUS_PER_PROCESS = 0.5
"""Logical CPUs that Ray sets aside for each process of a run: a fraction, so that runs fit beside serving."""


def build_config(spec: trainer_pb2.RunSpec, spaces: EnvironmentSpaces | None = None) -> Any:  # noqa: ANN401
    """Makes RLlib's config for a run.

    Args:
        spec: A spec with the defaults filled in.
        spaces: The environment's spaces; None makes it once to see them.

    Returns:
        The algorithm's config, validated. RLlib has no types.

    Raises:
        InvalidArgumentError: If the algorithm is not one for the environment, RLlib refuses the settings, or they ask
            for what cannot be exported.
    """
    parts = _parts(spec, spaces)
    algorithm, groups = parts.algorithm, parts.groups
    pieces = parts.pieces
    pieces.check(algorithm)
    resources = spec.resources
    gpus_per_learner = resources.gpus_per_learner if resources.HasField("gpus_per_learner") else float(spec.use_gpu)
    name = _registered(spec.environment)
    try:
        config = algorithm.make_config()
        for method, values in groups.items():
            if method != MODEL:
                getattr(config, method)(**values)
        (
            config.environment(name, normalize_actions=not pieces.fits_actions)
            .env_runners(
                num_env_runners=spec.num_env_runners,
                num_envs_per_env_runner=spec.num_envs_per_env_runner,
                num_cpus_per_env_runner=_or_default(resources, "cpus_per_env_runner"),
                num_gpus_per_env_runner=resources.gpus_per_env_runner,
                env_to_module_connector=pieces,
                module_to_env_connector=pieces.behind,
                # What pieces look back at has to be there when an episode is cut.
                episode_lookback_horizon=max(1, pieces.connectors.frame_stack),
            )
            .learners(
                num_learners=spec.num_learners,
                num_gpus_per_learner=gpus_per_learner,
                num_cpus_per_learner=_or_default(resources, "cpus_per_learner"),
            )
            .resources(num_cpus_for_main_process=_or_default(resources, "cpus"))
            # RLlib itself would start a process that fails a thousand times.
            .fault_tolerance(
                restart_failed_env_runners=True,
                max_num_env_runner_restarts=RUNNER_RESTARTS,
                delay_between_env_runner_restarts_s=0,
            )
            .rl_module(model_config=DefaultModelConfig(**groups[MODEL]), rl_module_spec=_module_spec(spec, algorithm))
            .debugging(seed=spec.seed)
            .callbacks([OwnReturns, *own_callbacks(spec.callbacks)])
        )
        if pieces.connectors.frame_stack:
            config.training(learner_connector=pieces.learner)
        if algorithm.learns_from_recordings:
            offline_settings(config, spec.dataset, parts.spaces, pieces, clip=pieces.connectors.clip_actions)
        config.validate()
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(f"RLlib refuses the settings: {_one_line(error)}") from error
    return config


def check_model(spec: trainer_pb2.RunSpec, spaces: EnvironmentSpaces | None = None) -> None:
    """Builds the run's networks once, since RLlib does not look at the model's settings before.

    Args:
        spec: A spec with the defaults filled in.
        spaces: The environment's spaces; None makes it once to see them.

    Raises:
        InvalidArgumentError: If RLlib cannot build them.
    """
    parts = _parts(spec, spaces)
    config = build_config(spec, parts.spaces)
    try:
        spaces_given = {DEFAULT_MODULE_ID: (parts.pieces.network_space, parts.spaces.action)}
        config.get_rl_module_spec(spaces=spaces_given, inference_only=False).build()
    except Exception as error:
        hint = _FILTERS_HINT if is_image(parts.spaces.observation) or parts.pieces.has_filters else ""
        raise InvalidArgumentError(f"RLlib cannot build a model from the settings: {_one_line(error)}{hint}") from error


def bundles(config: Any) -> list[dict[str, float]]:  # noqa: ANN401 - RLlib has no types
    """Lists the resources that Ray sets aside for a run: one entry for each process, all placed at once.

    Raises:
        InvalidArgumentError: If Ray cannot set such resources aside, as none at all.
    """
    try:
        request = config.algo_class.default_resource_request(config)
    except ValueError as error:
        raise InvalidArgumentError(f"expected resources that Ray can set aside: {_one_line(error)}") from error
    return [dict(bundle) for bundle in request.bundles]


@dataclass(frozen=True)
class _Parts:
    """What a config is made of.

    Attributes:
        algorithm: The algorithm.
        groups: Its settings, by what takes them.
        spaces: The environment's.
        pieces: Makes its connector pieces.
    """

    algorithm: Algorithm
    groups: dict[str, dict[str, Any]]
    spaces: EnvironmentSpaces
    pieces: Pieces


def _parts(spec: trainer_pb2.RunSpec, spaces: EnvironmentSpaces | None) -> _Parts:
    algorithm = find_algorithm(spec.algorithm)
    groups = grouped(algorithm, complete_settings(algorithm, plain_values(spec.settings), spec.training))
    spaces = spaces or spaces_of(spec.environment)
    algorithm.check_action_space(spaces.action)
    pieces = pieces_of(spec, spaces, has_filters=bool(groups[MODEL].get("conv_filters")))
    return _Parts(algorithm, groups, spaces, pieces)


def _or_default(resources: trainer_pb2.Resources, name: str) -> float:
    value: float = getattr(resources, name) if resources.HasField(name) else CPUS_PER_PROCESS  # type: ignore[arg-type] # a name
    return value


def _registered(environment: trainer_pb2.Environment) -> str:
    """Tells RLlib how an environment is made, and gives the name under which it knows it.

    By name rather than as a function, since RLlib writes the environment into its results.
    """
    description = environment.SerializeToString(deterministic=True)
    name = f"{environment.id}-{hashlib.sha256(description).hexdigest()[:8]}"
    register_env(name, functools.partial(_make, description))
    return name


def _make(description: bytes, context: Any) -> gymnasium.Env[Any, Any]:  # noqa: ANN401 - RLlib's
    # The settings of the process that plays it: Ray gives those of the job to every process of it.
    seconds = settings().environment_step_seconds
    trial = int(context.get(TRIAL_IN_CONTEXT, 0))
    return make_watched(trainer_pb2.Environment.FromString(description), seconds, trial)


def _module_spec(spec: trainer_pb2.RunSpec, algorithm: Algorithm) -> Any:  # noqa: ANN401
    """Makes RLlib's description of the run's network, without spaces and settings.

    Raises:
        InvalidArgumentError: If the class that was asked for cannot be found.
    """
    if not spec.module_class:
        return algorithm.make_config().get_default_rl_module_spec()
    return RLModuleSpec(module_class=find_class(spec.module_class, RLModule, "module class"))


def _one_line(error: Exception) -> str:
    # RLlib ends its messages with advice on how to switch its checks off.
    text, _, _ = str(error).partition("To suppress all validation errors")
    return " ".join(text.split()) or type(error).__name__
