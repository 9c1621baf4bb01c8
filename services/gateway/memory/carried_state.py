"""State that the client carries between steps: sealed, so that only what a gateway gave comes back.

A sealed state is: one byte of format, eight bytes of version (little-endian), the elements of every state tensor in the
spec's order, and a tag over all of it and the policy's name (HMAC-SHA256, RFC 2104, cut to 16 bytes as RFC 2104 section
5 allows).
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from steersman.errors import InvalidArgumentError

_FORMAT = b"\x01"
_VERSION_BYTES = 8
_TAG_BYTES = 16
_HEADER_BYTES = len(_FORMAT) + _VERSION_BYTES


@dataclass(frozen=True, slots=True)
class CarriedState:
    """An opened state.

    Attributes:
        version: The version that the episode began with, and continues with.
        elements: The elements of every state tensor, one tensor after the other.
    """

    version: int
    elements: bytes


class StateSeal:
    """Seals and opens states.

    Args:
        key: The secret that all gateways of an installation share; at least 32 bytes.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) < 32:
            raise ValueError(f"expected a key of at least 32 bytes, got {len(key)}")
        self._key = key

    def seal(self, policy: str, state: CarriedState) -> bytes:
        """Makes the bytes that a client carries."""
        body = b"".join([_FORMAT, state.version.to_bytes(_VERSION_BYTES, "little"), state.elements])
        return body + self._tag(policy, body)

    def open(self, policy: str, sealed: bytes) -> CarriedState:
        """Opens what a client brought back.

        Raises:
            InvalidArgumentError: If no gateway of this installation gave it for this policy.
        """
        body, tag = sealed[:-_TAG_BYTES], sealed[-_TAG_BYTES:]
        genuine = len(sealed) >= _HEADER_BYTES + _TAG_BYTES and hmac.compare_digest(tag, self._tag(policy, body))
        if not genuine or body[:1] != _FORMAT:
            raise InvalidArgumentError(
                f"expected the state of policy {policy!r} as the last answer brought it, got {len(sealed)} bytes that "
                "no gateway of this installation gave"
            )
        return CarriedState(int.from_bytes(body[1:_HEADER_BYTES], "little"), body[_HEADER_BYTES:])

    def _tag(self, policy: str, body: bytes) -> bytes:
        # The name cannot run into the body: it holds no zero byte.
        return hmac.digest(self._key, policy.encode() + b"\0" + body, hashlib.sha256)[:_TAG_BYTES]
