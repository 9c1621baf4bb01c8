"""What a request may set of an algorithm: names and types are those of RLlib's own config."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import typing
from collections.abc import Mapping
from typing import Any

import pydantic
from ray._common.deprecation import DEPRECATED_VALUE
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

from services.trainer.algorithms.catalogue import Algorithm
from steersman.errors import InvalidArgumentError
from steersman.quoting import quoted
from steersman.v1 import trainer_pb2

MODEL = "model"
"""Stands for RLlib's default model config, among the methods of `AlgorithmConfig` that settings belong to."""

# Parameters of training() that are no settings: Python objects, and those of RLlib's old API stack, which are ignored.
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
        "before_learn_on_batch",
        "train_batch_size",
        "lr_schedule",
        "entropy_coeff_schedule",
        "optimization_config",
        "policy_model_config",
        "q_model_config",
        "hiddens",
        "opt_type",
        "decay",
        "momentum",
        "minibatch_buffer_size",
        "num_multi_gpu_tower_stacks",
        "learner_queue_timeout",
        "replay_proportion",
        "replay_buffer_num_slots",
    }
)

# What may be set besides all of training(). The rest of RLlib's config is what a run is made of: its environment,
# connectors, processes and callbacks; or is for RLlib's old API stack and ignored, as clip_rewards is.
_MORE_SETTINGS = {
    "env_runners": ("rollout_fragment_length", "batch_mode", "explore", "sample_timeout_s", "gym_env_vectorize_mode"),
    "learners": ("num_aggregator_actors_per_learner",),
    "offline_data": ("dataset_num_iters_per_learner",),
    "reporting": (
        "min_time_s_per_iteration",
        "min_train_timesteps_per_iteration",
        "min_sample_timesteps_per_iteration",
        "metrics_num_episodes_for_smoothing",
    ),
}

# Where RLlib's annotations are too narrow for its own defaults.
_WIDER_TYPES: dict[str, Any] = {"grad_clip": float | None}

# Typed settings whose names differ from RLlib's; `lr` is another matter.
_TYPED_NAMES = {
    "train_batch_size": "train_batch_size_per_learner",
    "hidden_layers": "fcnet_hiddens",
    "activation": "fcnet_activation",
}
_ON_POLICY = frozenset({"minibatch_size", "num_epochs"})


@dataclasses.dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        method: The method of `AlgorithmConfig` that takes it, or `MODEL`.
        type: Its type.
    """

    method: str
    type: Any


@functools.cache
def settings_of(algorithm: Algorithm) -> Mapping[str, Setting]:
    """Lists what may be set of an algorithm, by name."""
    hints = typing.get_type_hints(DefaultModelConfig)
    found = {field.name: Setting(MODEL, hints[field.name]) for field in dataclasses.fields(DefaultModelConfig)}
    for method, names in _MORE_SETTINGS.items():
        parameters = inspect.signature(getattr(AlgorithmConfig, method)).parameters
        found |= {name: Setting(method, parameters[name].annotation) for name in names}
    for config in reversed(type(algorithm.make_config()).__mro__):
        if "training" in vars(config):
            for name, parameter in inspect.signature(vars(config)["training"]).parameters.items():
                if (
                    name not in _NOT_SETTINGS
                    and not name.startswith("_")
                    and parameter.default is not DEPRECATED_VALUE
                    and parameter.annotation is not inspect.Parameter.empty
                ):
                    found[name] = Setting("training", _WIDER_TYPES.get(name, parameter.annotation))
    return found


def complete_settings(
    algorithm: Algorithm, given: Mapping[str, Any], training: trainer_pb2.TrainingSettings | None = None
) -> dict[str, Any]:
    """Checks a request's settings against RLlib's own config and fills in Steersman's defaults.

    Args:
        algorithm: What is trained.
        given: Settings by RLlib's names.
        training: The usual settings, typed.

    Raises:
        InvalidArgumentError: If a name is unknown, a value is not of the setting's type, the algorithm does not have a
            typed setting, or a setting is given twice and differently.
    """
    checked = {name: check_setting(algorithm, name, value) for name, value in given.items()}
    for name, value in typed_settings(algorithm, training or trainer_pb2.TrainingSettings()).items():
        typed = check_setting(algorithm, name, value)
        if checked.setdefault(name, typed) != typed:
            raise InvalidArgumentError(
                f"expected one value for {name}, got {quoted(checked[name])} in `settings` "
                f"and {quoted(typed)} in `training`"
            )
    return {**algorithm.defaults, **checked}


def grouped(algorithm: Algorithm, settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Sorts complete settings by what takes them: methods of `AlgorithmConfig`, and `MODEL`."""
    known = settings_of(algorithm)
    groups: dict[str, dict[str, Any]] = {MODEL: {}}
    for name, value in settings.items():
        groups.setdefault(known[name].method, {})[name] = value
    return groups


def typed_settings(algorithm: Algorithm, training: trainer_pb2.TrainingSettings) -> dict[str, Any]:
    """Gives the typed settings that are set, by RLlib's names.

    Raises:
        InvalidArgumentError: If the algorithm does not have one of them.
    """
    found: dict[str, Any] = {}
    for field, value in training.ListFields():
        plain = list(value) if field.name == "hidden_layers" else value
        found |= dict.fromkeys(rllib_names(algorithm, field.name), plain)
    return found


def rllib_names(algorithm: Algorithm, name: str) -> tuple[str, ...]:
    """Gives RLlib's names for what a request calls by the name of a typed setting; other names stay as they are.

    Raises:
        InvalidArgumentError: If it is a typed setting, and the algorithm does not have it.
    """
    if name not in trainer_pb2.TrainingSettings.DESCRIPTOR.fields_by_name:
        return (name,)
    if name == "lr":
        return algorithm.learning_rates
    found = _TYPED_NAMES.get(name, name)
    is_ignored = found in _ON_POLICY and algorithm.name not in {"APPO", "IMPALA", "PPO"}
    if found not in settings_of(algorithm) or is_ignored:
        raise InvalidArgumentError(f"expected a setting that {algorithm.name} has, got training.{name}")
    return (found,)


def check_setting(algorithm: Algorithm, name: str, value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Checks one setting and gives its value as RLlib takes it.

    Args:
        algorithm: What is trained.
        name: RLlib's name.
        value: Any JSON value.

    Raises:
        InvalidArgumentError: If the name is unknown, or the value is not of the setting's type.
    """
    known = settings_of(algorithm)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3)
        hint = f"; near matches: {', '.join(near)}" if near else ""
        raise InvalidArgumentError(
            f"expected a setting of {algorithm.name} or of RLlib's default model, got {quoted(name)}{hint}"
        )
    try:
        return pydantic.TypeAdapter(known[name].type).validate_python(value)
    except pydantic.ValidationError as error:
        reasons = "; ".join(dict.fromkeys(detail["msg"] for detail in error.errors()))
        raise InvalidArgumentError(f"expected another value for {name}, got {quoted(value)}: {reasons}") from error
