"""How many observations fit into a message between gateway and replica.

All observations of a version have the same bytes, so a limit in bytes becomes one in observations, known before a batch
is made. What a message has besides the elements is taken at its largest.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from services.gateway.requests.observations import TensorFormat
from services.gateway.requests.options import GREEDY, Options
from services.gateway.requests.versions import Version

_VARINT_BYTES = 10
"""A number in a protobuf message, at its longest."""

_HEADER_BYTES = 1 + 5
"""The tag and the length of a part of a message that is at most 4 GiB long."""

_MESSAGE_BYTES = 2 * _HEADER_BYTES + 7 * (1 + _VARINT_BYTES)
"""What a message has once: its own header, the batch's or the answer's, and numbers of either, options included."""

_SEED_BYTES = _HEADER_BYTES + 3 * (1 + _VARINT_BYTES)
"""The seed of one request in a batch; at worst every observation has one of its own."""


@dataclass(frozen=True, slots=True)
class MessageSize:
    """How large a message gets.

    Attributes:
        once: Bytes that it has at most, whatever is in it.
        each: Bytes that each observation adds at most.
    """

    once: int
    each: int

    def most_observations(self, max_message_bytes: int) -> int:
        """Tells how many observations fit into a message; 0 if not even one does."""
        return max(0, max_message_bytes - self.once) // max(1, self.each)


def batch_size(version: Version, options: Options) -> MessageSize:
    """Gives the size of a batch for a replica.

    Args:
        version: The version to compute with.
        options: How actions are chosen, for all of them.
    """
    return MessageSize(_once(version.inputs), version.row_bytes + (0 if options is GREEDY else _SEED_BYTES))


def answer_size(version: Version, options: Options) -> MessageSize:
    """Gives the size of a replica's answer to a batch.

    Args:
        version: The version that computes.
        options: How actions are chosen, for all of them, and what is wanted besides.
    """
    outputs = version.outputs(options)
    return MessageSize(_once(outputs), sum(entry.row_bytes for entry in outputs))


def _once(formats: Iterable[TensorFormat]) -> int:
    return _MESSAGE_BYTES + sum(_tensor_bytes(entry) for entry in formats)


def _tensor_bytes(entry: TensorFormat) -> int:
    """Gives the bytes of one named tensor but for its elements: headers of entry, name, tensor, shape and data."""
    axes = 1 + len(entry.shape)
    return 5 * _HEADER_BYTES + len(entry.name.encode()) + (1 + _VARINT_BYTES) + axes * _VARINT_BYTES
