"""A bundle's manifest: read from JSON that nobody trusts yet, checked against its schema and for sense."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
from google.protobuf import json_format

from steersman import spaces
from steersman.environments.choice import check_recordable
from steersman.errors import InvalidArgumentError
from steersman.quoting import quoted
from steersman.v1 import common_pb2

FORMAT = 3
"""Version of the bundle's format that is written."""

FORMATS = (2, 3)
"""Versions that are read. Format 2 has no environment in its spec, only the environment's id."""

_SCHEMA = json.loads((Path(__file__).parent / "manifest.schema.json").read_text())
_VALIDATOR = jsonschema.Draft202012Validator(_SCHEMA)
_LONGEST_QUOTE = 120


def read_manifest(text: bytes, path: Path) -> tuple[common_pb2.PolicySpec, dict[str, Any]]:
    """Reads a manifest.

    Args:
        text: Its JSON.
        path: Where it was read, for messages.

    Returns:
        What the policy takes and gives, and its provenance.

    Raises:
        InvalidArgumentError: If it is not the manifest of a bundle.
    """
    manifest = _parse(text, path)
    if isinstance(manifest, dict) and manifest.get("format", FORMAT) not in FORMATS:
        formats = " or ".join(map(str, FORMATS))
        raise InvalidArgumentError(f"expected a bundle of format {formats} in {path}, got {manifest['format']!r}")
    error = jsonschema.exceptions.best_match(_VALIDATOR.iter_errors(manifest))
    if error is not None:
        raise InvalidArgumentError(f"{path} is not a bundle's manifest: at {error.json_path}: {_shortened(error)}")
    spec = common_pb2.PolicySpec()
    try:
        json_format.ParseDict(manifest["spec"], spec)
    except json_format.ParseError as parse_error:
        raise InvalidArgumentError(f"{path} is not a bundle's manifest: {parse_error}") from parse_error
    try:
        check_spec(spec)
    except InvalidArgumentError as sense:
        raise InvalidArgumentError(f"{path} makes no sense: {sense}") from sense
    return spec, manifest["provenance"]


def check_spec(spec: common_pb2.PolicySpec) -> None:
    """Checks what a schema cannot: that the parts of a spec go together.

    Raises:
        InvalidArgumentError: If the tensors are not those of the spaces, inputs share a name, or the environment is
            none that may be played.
    """
    if spec.HasField("environment"):
        _check_environment(spec)
    observation = spaces.tensor_specs(spec.observation_space, spaces.OBSERVATION)
    given = list(spec.observation_tensors)
    if given and given[-1].name == spaces.PREVIOUS_REWARD:
        observation.append(common_pb2.TensorSpec(name=spaces.PREVIOUS_REWARD, dtype=common_pb2.DATA_TYPE_FLOAT32))
    for what, wanted, got in (
        ("observation", observation, given),
        ("action", spaces.tensor_specs(spec.action_space, spaces.ACTION), list(spec.action_tensors)),
    ):
        if wanted != got:
            raise InvalidArgumentError(
                f"expected the {what} tensors of its {what} space, {_names(wanted)}, got {_names(got)}"
            )
    inputs = [tensor.name for tensor in (*spec.observation_tensors, *spec.state_tensors)]
    if len(set(inputs)) != len(inputs):
        raise InvalidArgumentError(f"expected a name of its own for each input, got {inputs}")
    if len(spec.action_distributions) != len(spec.action_tensors):
        raise InvalidArgumentError(
            f"expected {len(spec.action_tensors)} action distributions, got {len(spec.action_distributions)}"
        )


def _check_environment(spec: common_pb2.PolicySpec) -> None:
    environment = spec.environment
    if environment.id != spec.environment_id:
        raise InvalidArgumentError(
            f"expected the environment {quoted(spec.environment_id)} as environment_id says, got "
            f"{quoted(environment.id)}"
        )
    check_recordable(environment)


def _parse(text: bytes, path: Path) -> Any:  # noqa: ANN401 - any JSON value
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidArgumentError(f"{path} is not JSON: {error}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuses keys that come twice, of which JSON readers take the first or the last as they please."""
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} comes twice")
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _shortened(error: jsonschema.ValidationError) -> str:
    """Writes what is wrong without quoting megabytes of it."""
    message = error.message
    if len(message) > _LONGEST_QUOTE:
        message = f"{message[:_LONGEST_QUOTE]}..."
    description = error.schema.get("description", "") if isinstance(error.schema, dict) else ""
    return f"{message} ({description})" if description else message


def _names(specs: list[common_pb2.TensorSpec]) -> list[str]:
    return [f"{spec.name} {common_pb2.DataType.Name(spec.dtype)}{list(spec.shape)}" for spec in specs]
