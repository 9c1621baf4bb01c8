"""A batch: segments of requests on their way to a replica and back.

Putting it together joins the bytes of its requests, one copy for each tensor; taking the answer apart slices bytes. No
observation is ever a Python object of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from services.gateway.requests.observations import TensorFormat
from services.gateway.requests.options import GREEDY, Options
from services.gateway.requests.request import Segment
from services.gateway.requests.versions import Version
from steersman import tensors
from steersman.errors import InternalError
from steersman.v1 import common_pb2, replica_pb2

_MOST_MICROSECONDS = 2**32 - 1


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Observations that are computed together.

    Attributes:
        id: Unique among the batches of an attachment.
        version: The version to compute with.
        options: How actions are chosen, for all of them.
        segments: Whose observations they are, in order; never empty.
        size: How many observations.
        given: Time at which the replica got it, in seconds.
    """

    id: int
    version: Version
    options: Options
    segments: list[Segment]
    size: int
    given: float

    @property
    def isolated(self) -> bool:
        """Whether it is to be the only batch that its replica holds, so that it is known what a loss is due to."""
        return self.segments[0].request.isolated

    def message(self, queue_depth: int) -> replica_pb2.AttachResponse:
        """Writes the batch for the replica.

        Args:
            queue_depth: Observations that still wait at the gateway.
        """
        message = replica_pb2.AttachResponse()
        batch = message.batch
        batch.id = self.id
        batch.version = self.version.number
        batch.queue_depth = queue_depth
        head = self.segments[0].request
        if head.interactive:
            batch.queue_delay_microseconds = min(max(0, int((self.given - head.arrived) * 1e6)), _MOST_MICROSECONDS)
        for index, tensor_format in enumerate(self.version.inputs):
            tensor = batch.inputs[tensor_format.name]
            tensor.dtype = tensor_format.dtype
            tensor.shape.extend((self.size, *tensor_format.shape))
            tensor.data = b"".join([segment.data(index, tensor_format.row_bytes) for segment in self.segments])
        deadline = max([segment.request.deadline for segment in self.segments])
        if deadline != math.inf:
            batch.timeout_microseconds = min(max(1, int((deadline - self.given) * 1e6)), _MOST_MICROSECONDS)
        if self.options is not GREEDY:
            batch.options.CopyFrom(self.options.message())
            for segment in self.segments:
                batch.seeds.add(count=segment.size, seed=segment.request.seed, first=segment.start)
        return message

    def answer(self, answer: replica_pb2.BatchAnswer) -> int:
        """Gives each request its part of the replica's answer.

        Args:
            answer: What the replica computed.

        Returns:
            The microseconds that it took.

        Raises:
            InternalError: If the answer is not what the version promises; then no request was answered.
        """
        formats = self.version.outputs(self.options)
        outputs = [self._elements(answer.outputs, tensor_format) for tensor_format in formats]
        compute_microseconds = answer.compute_microseconds
        offset = 0
        for segment in self.segments:
            end = offset + segment.size
            part = [
                elements[offset * tensor_format.row_bytes : end * tensor_format.row_bytes]
                for elements, tensor_format in zip(outputs, formats, strict=True)
            ]
            segment.request.answer(segment.start, segment.size, part, compute_microseconds)
            offset = end
        return compute_microseconds

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
