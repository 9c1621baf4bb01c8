"""A policy with memory for tests without gRPC: its action is the sum of the episode's observations, all of them int64.

It has two state tensors of different sizes, so that a mistake in how states are cut up shows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from services.gateway.dispatch.attachment import Attachment
from services.gateway.requests.versions import Version, read_version
from steersman import tensors
from steersman.v1 import common_pb2, policy_pb2, replica_pb2

POLICY = "totals"
TOTAL, STEPS = "total", "steps"

_INT64 = common_pb2.DATA_TYPE_INT64
_INT32 = common_pb2.DATA_TYPE_INT32


def loaded_version(number: int, has_memory: bool = True, extras: Sequence[str] = ()) -> replica_pb2.LoadedVersion:
    """Announces a version; without memory its action is the observation."""
    state = [
        common_pb2.TensorSpec(name=TOTAL, dtype=_INT64),
        common_pb2.TensorSpec(name=STEPS, dtype=_INT32, shape=[3]),
    ]
    spec = common_pb2.PolicySpec(
        observation_tensors=[common_pb2.TensorSpec(name="observation", dtype=_INT64)],
        action_tensors=[common_pb2.TensorSpec(name="action", dtype=_INT64)],
        state_tensors=state if has_memory else [],
        extra_tensors=[common_pb2.TensorSpec(name=name, dtype=common_pb2.DATA_TYPE_FLOAT32) for name in extras],
        action_distributions=[common_pb2.ActionDistribution(kind="categorical")],
    )
    return replica_pb2.LoadedVersion(version=number, spec=spec)


def version(number: int = 1) -> Version:
    """Gives a version with memory."""
    return read_version(loaded_version(number))


def total_of(number: int) -> tuple[bytes, bytes]:
    """Gives the state of one episode: the total in the first tensor, and thrice in the second."""
    return np.int64(number).tobytes(), np.full(3, number, np.int32).tobytes()


def act(
    numbers: Sequence[int] | int,
    *,
    policy: str = POLICY,
    state: bytes = b"",
    session_ids: Sequence[str] = (),
    episode_start: Sequence[bool] = (),
    steps: Sequence[int] = (),
) -> policy_pb2.ActRequest:
    """Makes a request: one observation, or a batch of them."""
    return policy_pb2.ActRequest(
        policy=policy,
        observation={"observation": tensors.encode(np.array(numbers, np.int64))},
        state=state,
        session_ids=session_ids,
        episode_start=episode_start,
        steps=steps,
    )


class TotalReplica:
    """A replica that a test lets answer.

    Attributes:
        attachment: The gateway's side of it.
        inbox: Batches that it has been sent and has not answered.
    """

    def __init__(self, *versions: replica_pb2.LoadedVersion) -> None:
        self.inbox: list[replica_pb2.Batch] = []
        self.attachment = Attachment(
            announce(*versions),
            lambda message: self.inbox.append(replica_pb2.AttachResponse.FromString(message).batch),
            max_message_bytes=2**20,
        )


def announce(*versions: replica_pb2.LoadedVersion) -> replica_pb2.Announce:
    """Announces a replica."""
    return replica_pb2.Announce(
        policy=POLICY,
        replica_id="replica",
        versions=versions or [loaded_version(1)],
        max_batches_in_flight=2,
        max_batch_size=4,
    )


def compute(batch: replica_pb2.Batch) -> replica_pb2.BatchAnswer:
    """Computes what the policy answers; every extra is the negated action."""
    inputs = {name: tensors.decode(tensor) for name, tensor in batch.inputs.items()}
    outputs = {"action": inputs["observation"]}
    if TOTAL in inputs:
        total = inputs[TOTAL].astype(np.int64) + inputs["observation"].astype(np.int64)
        steps = np.repeat(total[:, np.newaxis], 3, axis=1).astype(np.int32)
        assert (inputs[STEPS] == inputs[TOTAL][:, np.newaxis]).all(), "the two states belong to one episode"
        outputs = {"action": total, TOTAL: total, STEPS: steps}
    for name in ("log_probability", "value", "action_distribution_inputs"):
        if getattr(batch.options, name):
            outputs[name] = -outputs["action"].astype(np.float32)
    encoded = {name: tensors.encode(array) for name, array in outputs.items()}
    return replica_pb2.BatchAnswer(outputs=encoded, compute_microseconds=7)
