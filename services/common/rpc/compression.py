"""Compression of single messages: gzip and deflate, with a bound on what a message may inflate to."""

from __future__ import annotations

import zlib
from typing import Literal, cast

from services.common.rpc.errors import CallError
from services.common.rpc.wire import Status

Encoding = Literal["identity", "deflate", "gzip"]

ACCEPTED = b"identity,deflate,gzip"

_WINDOW_BITS = {"deflate": zlib.MAX_WBITS, "gzip": zlib.MAX_WBITS | 16}


def read_encoding(value: bytes) -> Encoding:
    """Reads `grpc-encoding`.

    Raises:
        CallError: UNIMPLEMENTED, if it is none that we know.
    """
    name = value.decode("latin-1")
    if name not in ("identity", "deflate", "gzip"):
        raise CallError(Status.UNIMPLEMENTED, f"expected a grpc-encoding of {ACCEPTED.decode()}, got {name[:32]!r}")
    return cast("Encoding", name)


def compress(message: bytes, encoding: Encoding) -> bytes:
    """Compresses a message."""
    compressor = zlib.compressobj(wbits=_WINDOW_BITS[encoding])
    return compressor.compress(message) + compressor.flush()


def decompress(message: bytes, encoding: Encoding, limit: int) -> bytes:
    """Decompresses a message, and stops where it gets larger than the limit.

    Raises:
        CallError: If it is larger, or not compressed as the call said.
    """
    if encoding == "identity":
        raise CallError(
            Status.INTERNAL, "expected an uncompressed message, as grpc-encoding says, got a compressed one"
        )
    decompressor = zlib.decompressobj(wbits=_WINDOW_BITS[encoding])
    try:
        plain = decompressor.decompress(message, limit + 1)
    except zlib.error as error:
        raise CallError(Status.INTERNAL, f"expected a message compressed with {encoding}: {error}") from error
    if len(plain) > limit:
        raise CallError(
            Status.RESOURCE_EXHAUSTED, f"expected a message of at most {limit} bytes, got one that inflates to more"
        )
    if not decompressor.eof or decompressor.unused_data:
        raise CallError(Status.INTERNAL, f"expected one whole message compressed with {encoding}, got another length")
    return plain
