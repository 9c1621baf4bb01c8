"""A policy of numbers for tests of the data plane: the observation is a number, and the action is that number."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from itertools import count

import numpy as np

from services.gateway.dispatch.admission import Limits
from services.gateway.dispatch.attachment import Attachment
from services.gateway.requests.options import GREEDY, Options
from services.gateway.requests.request import Request
from services.gateway.requests.statistics import Statistics
from services.gateway.requests.versions import Version, read_version
from steersman.v1 import common_pb2, replica_pb2

MAX_MESSAGE_BYTES = 2**20

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


def request(
    size: int = 1,
    version_number: int = 1,
    pinned: bool = False,
    options: Options = GREEDY,
    interactive: bool = True,
    deadline: float = math.inf,
) -> Request:
    """Makes a request with numbers that no other request has."""
    numbers = np.array([next(_numbers) for _ in range(size)], np.int64)
    return Request(
        policy="numbers",
        statistics=Statistics(),
        inputs=(numbers.tobytes(),),
        size=size,
        batched=size > 1,
        version=version(version_number),
        pinned=pinned,
        arrived=0.0,
        on_finished=lambda _: None,
        options=options,
        interactive=interactive,
        deadline=deadline,
    )


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
            lambda message: self.inbox.append(replica_pb2.AttachResponse.FromString(message).batch),
            max_message_bytes=MAX_MESSAGE_BYTES,
        )

    def compute(self, batch: replica_pb2.Batch) -> replica_pb2.BatchAnswer:
        """Computes what the policy of numbers answers."""
        return replica_pb2.BatchAnswer(outputs={"action": batch.inputs["observation"]}, compute_microseconds=1)


NO_LIMITS = Limits(observations=10**9, size_bytes=10**12, pushback_milliseconds=50)


class ManualLoop:
    """An event loop that a test drives by hand.

    Attributes:
        now: Its time, in seconds.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[Callable[[], None]] = []
        self._later: list[tuple[float, Callable[[], None]]] = []

    def call_soon(self, callback: Callable[[], None], /) -> None:
        self._due.append(callback)

    def call_later(self, delay: float, callback: Callable[[], None], /) -> None:
        self._later.append((self.now + delay, callback))

    def time(self) -> float:
        return self.now

    def run(self) -> None:
        """Runs what is due, and what that makes due."""
        self._due += [callback for time, callback in self._later if time <= self.now]
        self._later = [(time, callback) for time, callback in self._later if time > self.now]
        while self._due:
            due, self._due = self._due, []
            for callback in due:
                callback()

    def advance(self, seconds: float) -> None:
        """Lets time pass, then runs what is due."""
        self.now += seconds
        self.run()


async def until(condition: Callable[[], bool]) -> None:
    """Lets the event loop turn until a condition holds."""
    async with asyncio.timeout(5):
        while True:
            if condition():
                return
            await asyncio.sleep(0)
