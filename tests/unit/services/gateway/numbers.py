"""A policy of numbers for tests of the data plane: the observation is a number, and the action is that number."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import numpy as np

from services.gateway.attachment import Attachment
from services.gateway.observations import Observation
from services.gateway.requests import Request
from services.gateway.versions import Version, read_version
from steersman.v1 import common_pb2, replica_pb2

_numbers = count()


def loaded_version(number: int) -> replica_pb2.LoadedVersion:
    """Announces a version of the policy of numbers."""
    tensor = {"dtype": common_pb2.DATA_TYPE_INT64}
    spec = common_pb2.PolicySpec(
        observation_tensors=[common_pb2.TensorSpec(name="observation", **tensor)],  # type: ignore[arg-type]
        action_tensors=[common_pb2.TensorSpec(name="action", **tensor)],  # type: ignore[arg-type]
    )
    return replica_pb2.LoadedVersion(version=number, spec=spec)


def version(number: int = 1) -> Version:
    """Gives a version of the policy of numbers."""
    return read_version(loaded_version(number))


def request(size: int = 1, version_number: int = 1, pinned: bool = False) -> Request:
    """Makes a request with numbers that no other request has."""
    numbers = np.array([next(_numbers) for _ in range(size)], np.int64)
    observation = Observation((numbers.tobytes(),), size, size > 1)
    return Request(observation, version(version_number), pinned, 0.0, lambda _: None)


def announce(replica_id: str, versions: list[int], credit: int, max_batch_size: int) -> replica_pb2.Announce:
    """Announces a replica."""
    return replica_pb2.Announce(
        policy="numbers",
        replica_id=replica_id,
        versions=[loaded_version(number) for number in versions],
        max_batches_in_flight=credit,
        max_batch_size=max_batch_size,
    )


class NumberReplica:
    """A replica whose messages a test reads and answers by hand.

    Attributes:
        attachment: The gateway's side of it.
        inbox: Batches that it has been sent and has not answered.
    """

    def __init__(
        self, replica_id: str = "replica", versions: tuple[int, ...] = (1,), credit: int = 2, max_batch_size: int = 8
    ) -> None:
        self.inbox: list[replica_pb2.Batch] = []
        self.attachment = Attachment(
            announce(replica_id, list(versions), credit, max_batch_size),
            lambda message: self.inbox.append(message.batch),
        )

    def compute(self, batch: replica_pb2.Batch) -> replica_pb2.BatchAnswer:
        """Computes what the policy of numbers answers."""
        return replica_pb2.BatchAnswer(action={"action": batch.observation["observation"]}, compute_microseconds=1)


class Soon:
    """An event loop's `call_soon` that a test drives by hand."""

    def __init__(self) -> None:
        self._due: list[Callable[[], None]] = []

    def __call__(self, function: Callable[[], None]) -> None:
        self._due.append(function)

    def run(self) -> None:
        """Runs what is due."""
        due, self._due = self._due, []
        for function in due:
            function()
