"""PPO on RLlib's new API stack: Steersman's defaults, the settings that a request may give, and the config of a run.

Importing this module imports RLlib, which takes seconds.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import inspect
import typing
from typing import Any

import gymnasium
import pydantic
from ray._common.deprecation import DEPRECATED_VALUE
from ray.rllib.algorithms.ppo import PPO, PPOConfig
from ray.rllib.connectors.env_to_module import FlattenObservations
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.core.rl_module.rl_module import RLModule, RLModuleSpec

from services.common.structs import plain_values
from services.trainer.action_start import AddActionStart, needs_action_start
from services.trainer.environments import spaces_of
from services.trainer.image_scaling import ScaleImages, is_image
from steersman.errors import InvalidArgumentError
from steersman.v1 import trainer_pb2

ALGORITHMS = ("PPO",)
"""What can be trained."""

DEFAULTS: dict[str, Any] = {
    # RLlib clips the critic's loss at 10 by default, which silences it where returns are in the hundreds; and its
    # extra penalty on the policy's divergence only slows down what the clipped objective bounds already.
    "lr": 1e-3,
    "gamma": 0.99,
    "lambda_": 0.95,
    "clip_param": 0.2,
    "vf_clip_param": 10_000.0,
    "use_kl_loss": False,
    "kl_coeff": 0.0,
    "train_batch_size_per_learner": 2048,
    "minibatch_size": 256,
    "num_epochs": 8,
    # Two small networks: shared layers make the critic's loss drown the policy's.
    "fcnet_hiddens": [64, 64],
    "fcnet_activation": "tanh",
    "vf_share_layers": False,
}
"""What Steersman sets where a request does not. All else is RLlib's default."""

CPUS_PER_PROCESS = 0.5
"""Logical CPUs that Ray sets aside for each process of a run: a fraction, so that runs fit beside serving."""

# Parameters of training() that are no settings: Python objects, and those of RLlib's old API stack.
_NOT_SETTINGS = frozenset(
    {
        "self",
        "kwargs",
        "model",
        "optimizer",
        "learner_class",
        "learner_connector",
        "learner_config_dict",
        "add_default_connectors_to_learner_pipeline",
        "train_batch_size",
        "lr_schedule",
        "entropy_coeff_schedule",
    }
)


def _training_types() -> dict[str, Any]:
    """Collects the parameters of `training()` with their annotations, from the algorithm and RLlib's base config."""
    types: dict[str, Any] = {}
    for config in reversed(PPOConfig.__mro__):
        if "training" in vars(config):
            for name, parameter in inspect.signature(config.training).parameters.items():
                if name not in _NOT_SETTINGS and parameter.default is not DEPRECATED_VALUE:
                    types[name] = parameter.annotation
    return types


_TRAINING_TYPES = _training_types()
_MODEL_TYPES = {
    field.name: typing.get_type_hints(DefaultModelConfig)[field.name]
    for field in dataclasses.fields(DefaultModelConfig)
}
_TYPES = _MODEL_TYPES | _TRAINING_TYPES


def complete_settings(given: dict[str, Any]) -> dict[str, Any]:
    """Checks a request's settings against RLlib's own config and fills in Steersman's defaults.

    Args:
        given: Settings by the names of `AlgorithmConfig.training()` and `DefaultModelConfig`.

    Raises:
        InvalidArgumentError: If a name is unknown or a value is not of the setting's type.
    """
    return DEFAULTS | {name: _checked(name, value) for name, value in given.items()}


def _checked(name: str, value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if name not in _TYPES:
        near = difflib.get_close_matches(name, _TYPES, n=3)
        hint = f"; near matches: {', '.join(near)}" if near else ""
        raise InvalidArgumentError(f"expected a setting of PPO or of RLlib's default model, got {name!r}{hint}")
    try:
        return pydantic.TypeAdapter(_TYPES[name]).validate_python(value)
    except pydantic.ValidationError as error:
        reasons = "; ".join(dict.fromkeys(detail["msg"] for detail in error.errors()))
        raise InvalidArgumentError(f"expected another value for {name}, got {value!r}: {reasons}") from error


def build_config(spec: trainer_pb2.RunSpec) -> Any:  # noqa: ANN401 - RLlib has no types
    """Makes RLlib's config for a run.

    Args:
        spec: A spec with the defaults filled in.

    Returns:
        The `PPOConfig`, validated.

    Raises:
        InvalidArgumentError: If RLlib refuses the settings, or they ask for what cannot be exported.
    """
    settings = complete_settings(plain_values(spec.settings))
    model = {name: value for name, value in settings.items() if name in _MODEL_TYPES}
    training = {name: value for name, value in settings.items() if name in _TRAINING_TYPES}
    kwargs = plain_values(spec.environment.kwargs)
    observation_space, action_space = spaces_of(spec.environment.id, kwargs)
    shifted = needs_action_start(action_space)
    try:
        config = (
            PPOConfig()
            .environment(
                spec.environment.id,
                env_config=kwargs,
                normalize_actions=not shifted,
            )
            .env_runners(
                num_env_runners=spec.num_env_runners,
                num_envs_per_env_runner=spec.num_envs_per_env_runner,
                num_cpus_per_env_runner=CPUS_PER_PROCESS,
                env_to_module_connector=lambda *_, **__: _observation_pieces(observation_space, spec, model),
                module_to_env_connector=_add_action_start if shifted else None,
            )
            .learners(
                num_learners=spec.num_learners,
                num_gpus_per_learner=int(spec.use_gpu),
                num_cpus_per_learner=CPUS_PER_PROCESS,
            )
            .resources(num_cpus_for_main_process=CPUS_PER_PROCESS)
            # RLlib would start a process that fails again and again, a thousand times, and the run would hang instead
            # of telling why.
            .fault_tolerance(restart_failed_env_runners=False)
            .training(**training)
            .rl_module(model_config=DefaultModelConfig(**model), rl_module_spec=_module_spec(spec))
            .debugging(seed=spec.seed)
        )
        config.validate()
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(f"RLlib refuses the settings: {_one_line(error)}") from error
    return config


def _module_spec(spec: trainer_pb2.RunSpec) -> Any:  # noqa: ANN401
    """Makes RLlib's description of the run's network, without spaces and settings.

    Raises:
        InvalidArgumentError: If the class that was asked for cannot be found.
    """
    if not spec.module_class:
        return PPOConfig().get_default_rl_module_spec()
    module, separator, name = spec.module_class.partition(":")
    try:
        found = getattr(importlib.import_module(module), name) if separator else None
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidArgumentError(f"cannot import {spec.module_class!r}: {_one_line(error)}") from error
    if not (isinstance(found, type) and issubclass(found, RLModule)):
        raise InvalidArgumentError(
            f'expected "package.module:Class" of an RLModule as the module class, got {spec.module_class!r}'
        )
    return RLModuleSpec(module_class=found)


def check_model(spec: trainer_pb2.RunSpec) -> None:
    """Builds the run's networks once, since RLlib does not look at the model's settings before.

    Args:
        spec: A spec with the defaults filled in.

    Raises:
        InvalidArgumentError: If RLlib cannot build them.
    """
    settings = complete_settings(plain_values(spec.settings))
    model = {name: value for name, value in settings.items() if name in _MODEL_TYPES}
    observation_space, action_space = spaces_of(spec.environment.id, plain_values(spec.environment.kwargs))
    for piece in _observation_pieces(observation_space, spec, model):
        # Only now: RLlib's pieces look at settings that their constructors have not set yet.
        piece.input_action_space, piece.input_observation_space = action_space, observation_space
        observation_space = piece.observation_space
    module = _module_spec(spec)
    module.observation_space, module.action_space = observation_space, action_space
    module.model_config = DefaultModelConfig(**model)
    try:
        module.build()
    except Exception as error:
        raise InvalidArgumentError(f"RLlib cannot build a model from the settings: {_one_line(error)}") from error


def bundles(config: Any) -> list[dict[str, float]]:  # noqa: ANN401 - RLlib has no types
    """Lists the resources that Ray sets aside for a run: one entry for each process, all placed at once."""
    return [dict(bundle) for bundle in PPO.default_resource_request(config).bundles]


def _one_line(error: Exception) -> str:
    # RLlib ends its messages with advice on how to switch its checks off.
    text, _, _ = str(error).partition("To suppress all validation errors")
    return " ".join(text.split()) or type(error).__name__


def _observation_pieces(
    observation_space: gymnasium.Space[Any], spec: trainer_pb2.RunSpec, model: dict[str, Any]
) -> list[Any]:
    """Makes the connector pieces that bring observations to what RLlib's networks take.

    They take one axis of numbers; or images, which are bytes of three axes, or any Box if there are filters for
    convolutions. A network of the user's own takes what the environment emits, but for bytes.
    """
    pieces: list[Any] = []
    if is_image(observation_space):
        pieces.append(ScaleImages())
    axes = len(observation_space.shape or ())
    is_numbers = isinstance(observation_space, gymnasium.spaces.Box) and axes == 1
    is_convolved = isinstance(observation_space, gymnasium.spaces.Box) and (
        bool(model.get("conv_filters")) or (is_image(observation_space) and axes == 3)
    )
    if not (is_numbers or is_convolved or spec.module_class):
        pieces.append(FlattenObservations())
    return pieces


def _add_action_start(*_: Any, **__: Any) -> list[Any]:  # noqa: ANN401 - RLlib's signature
    return [AddActionStart()]
