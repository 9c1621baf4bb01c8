"""A batch: segments of requests on their way to a replica and back.

Putting it together joins the bytes of its requests, one copy for each tensor; taking the answer apart slices bytes. No
observation is ever a Python object of its own.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count

from services.gateway.requests.observations import TensorFormat
from services.gateway.requests.options import GREEDY, Options
from services.gateway.requests.request import Segment
from services.gateway.requests.versions import Version
from steersman import tensors
from steersman.errors import InternalError
from steersman.v1 import common_pb2, replica_pb2

_log = logging.getLogger(__name__)

_ids = count(1)

_MOST_MICROSECONDS = 2**32 - 1


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Observations that are computed together.

    Attributes:
        version: The version to compute with.
        options: How actions are chosen, for all of them.
        segments: Whose observations they are, in order; never empty.
        size: How many observations.
        given: When the replica gets it, in seconds of `time.monotonic`.
        id: Unique in this process, and ascending.
    """

    version: Version
    options: Options
    segments: list[Segment]
    size: int
    given: float
    id: int = field(default_factory=_ids.__next__)

    @property
    def isolated(self) -> bool:
        """Whether it is to be the only batch that its replica holds, so that it is known what a loss is due to."""
        return self.segments[0].request.isolated

    def message(self, queue_depth: int, busy_poll_microseconds: int = 0) -> replica_pb2.AttachResponse:
        """Writes the batch for the replica.

        Args:
            queue_depth: Observations that still wait at the gateway.
            busy_poll_microseconds: How long the replica may poll for the next one.

        Raises:
            InternalError: If a request does not carry the inputs of the version. `unwritable` tells which ones.
        """
        message = replica_pb2.AttachResponse()
        batch = message.batch
        batch.id = self.id
        batch.version = self.version.number
        batch.queue_depth = queue_depth
        batch.busy_poll_microseconds = busy_poll_microseconds
        head = self.segments[0].request
        if head.interactive:
            batch.queue_delay_microseconds = min(max(0, int((self.given - head.arrived) * 1e6)), _MOST_MICROSECONDS)
        inputs = len(self.version.inputs)
        if {len(segment.request.inputs) for segment in self.segments} != {inputs}:
            raise InternalError(f"expected requests with {inputs} inputs for version {self.version.number}, got others")
        for index, tensor_format in enumerate(self.version.inputs):
            tensor = batch.inputs[tensor_format.name]
            tensor.dtype = tensor_format.dtype
            tensor.shape.extend((self.size, *tensor_format.shape))
            row_bytes = tensor_format.row_bytes
            data = b"".join([segment.data(index, row_bytes) for segment in self.segments])
            if len(data) != self.size * row_bytes:
                raise InternalError(
                    f"expected {self.size * row_bytes} bytes of input {tensor_format.name!r} for version "
                    f"{self.version.number}, got {len(data)}"
                )
            tensor.data = data
        deadline = max([segment.request.deadline for segment in self.segments])
        if deadline != math.inf:
            batch.timeout_microseconds = min(max(1, int((deadline - self.given) * 1e6)), _MOST_MICROSECONDS)
        if self.options is not GREEDY:
            batch.options.CopyFrom(self.options.message())
            for segment in self.segments:
                batch.seeds.add(count=segment.size, seed=segment.request.seed, first=segment.start)
        return message

    def unwritable(self) -> list[Segment]:
        """Finds the segments that `message` fails for, each by itself."""
        found = []
        for segment in self.segments:
            alone = Batch(self.version, self.options, [segment], segment.size, self.given)
            try:
                alone.message(0)
            except Exception:  # noqa: BLE001 - `message` has raised it before, and it was logged then
                found.append(segment)
        return found

    def answer(self, answer: replica_pb2.BatchAnswer, now: float) -> None:
        """Gives each request its part of the replica's answer.

        Args:
            answer: What the replica computed.
            now: Seconds of `time.monotonic`.

        Raises:
            InternalError: If the answer is not what the version promises; then no request was answered.
        """
        formats = self.version.outputs(self.options)
        outputs = [(self._elements(answer.outputs, entry), entry.row_bytes) for entry in formats]
        compute_microseconds = answer.compute_microseconds
        offset = 0
        for segment in self.segments:
            end = offset + segment.size
            part = [elements[offset * row_bytes : end * row_bytes] for elements, row_bytes in outputs]
            offset = end
            try:
                segment.request.answer(segment.start, segment.size, part, compute_microseconds, now)
            except Exception:  # noqa: BLE001 - whatever it is, it concerns no one else
                _log.exception("a request for policy %s could not take its answer", segment.request.policy)
                segment.request.fail(InternalError("expected to take the answer, but the gateway failed at it"), now)

    def _elements(self, outputs: Mapping[str, common_pb2.Tensor], expected: TensorFormat) -> bytes:
        """Takes the bytes of one output, checked."""
        if expected.name not in outputs:
            raise InternalError(f"expected output {expected.name!r} from the replica, got {sorted(outputs)}")
        tensor = outputs[expected.name]
        elements: bytes = tensor.data
        if tensor.dtype != expected.dtype or len(elements) != self.size * expected.row_bytes:
            wanted = tensors.describe(expected.dtype, (self.size, *expected.shape))
            got = tensors.describe(tensor.dtype, tensor.shape)
            raise InternalError(f"expected output {expected.name!r} from the replica as {wanted}, got {got}")
        return elements
