"""A version of a policy as a replica announced it."""

from __future__ import annotations

from dataclasses import dataclass

from services.gateway.observations import TensorFormat, tensor_formats
from steersman.errors import InvalidArgumentError
from steersman.v1 import common_pb2, replica_pb2


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a policy.

    Attributes:
        number: The version.
        spec: What it takes and gives.
        observation: The formats of its observation tensors.
        action: The formats of its action tensors.
    """

    number: int
    spec: common_pb2.PolicySpec
    observation: tuple[TensorFormat, ...]
    action: tuple[TensorFormat, ...]


def read_version(loaded: replica_pb2.LoadedVersion) -> Version:
    """Reads what a replica announced.

    Raises:
        InvalidArgumentError: If the version is below 1 or its spec makes no sense.
    """
    if loaded.version < 1:
        raise InvalidArgumentError(f"expected a version of at least 1, got {loaded.version}")
    return Version(
        loaded.version,
        loaded.spec,
        tensor_formats(loaded.spec.observation_tensors),
        tensor_formats(loaded.spec.action_tensors),
    )
