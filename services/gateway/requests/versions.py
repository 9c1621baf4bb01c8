"""A version of a policy as a replica announced it."""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf import struct_pb2

from services.gateway.requests.observations import TensorFormat, tensor_formats
from services.gateway.requests.options import Options
from steersman.errors import InvalidArgumentError
from steersman.v1 import common_pb2, replica_pb2


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a policy.

    Attributes:
        number: The version.
        spec: What it takes and gives.
        model: What its model is made of.
        provenance: Where it comes from.
        observation: The formats of its observation tensors.
        state: The formats of its state tensors; empty for a policy without memory.
        action: The formats of its action tensors.
        extras: The formats of what it can give besides, by name.
        inputs: What it computes from, in the order of `Request.inputs`: observation, then state.
        row_bytes: Bytes of the inputs for one observation.
        deterministic: Whether there is nothing to draw from: its every action is its greedy one.
    """

    number: int
    spec: common_pb2.PolicySpec
    model: common_pb2.ModelDescription
    provenance: struct_pb2.Struct
    observation: tuple[TensorFormat, ...]
    state: tuple[TensorFormat, ...]
    action: tuple[TensorFormat, ...]
    extras: dict[str, TensorFormat]
    inputs: tuple[TensorFormat, ...]
    row_bytes: int
    deterministic: bool

    def outputs(self, options: Options) -> tuple[TensorFormat, ...]:
        """What it computes, in the order of `Request.outputs`."""
        return self.action + self.state + tuple(self.extras[name] for name in options.extras)

    def takes_the_same_as(self, other: Version) -> bool:
        """Tells whether a request for the other version can be answered by this one just as well.

        Observation and state are compared each for itself: both versions may list the same inputs, but one of them as
        its memory.
        """
        return (
            self.observation == other.observation
            and self.state == other.state
            and self.action == other.action
            and self.extras == other.extras
            and self.deterministic == other.deterministic
        )


def read_version(loaded: replica_pb2.LoadedVersion) -> Version:
    """Reads what a replica announced.

    Raises:
        InvalidArgumentError: If the version is below 1 or its spec makes no sense.
    """
    if loaded.version < 1:
        raise InvalidArgumentError(f"expected a version of at least 1, got {loaded.version}")
    spec = loaded.spec
    observation = tensor_formats(spec.observation_tensors, "observation")
    state = tensor_formats(spec.state_tensors, "state") if spec.state_tensors else ()
    extras = tensor_formats(spec.extra_tensors, "extra") if spec.extra_tensors else ()
    inputs = observation + state
    return Version(
        number=loaded.version,
        spec=spec,
        model=loaded.model,
        provenance=loaded.provenance,
        observation=observation,
        state=state,
        action=tensor_formats(spec.action_tensors, "action"),
        extras={entry.name: entry for entry in extras},
        inputs=inputs,
        row_bytes=sum(entry.row_bytes for entry in inputs),
        deterministic=all(entry.kind == "deterministic" for entry in spec.action_distributions),
    )
