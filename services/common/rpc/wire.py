"""gRPC on the wire, as pure functions: message prefix, timeout, status, metadata (doc/PROTOCOL-HTTP2.md of gRPC)."""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
import struct
import urllib.parse
from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import NamedTuple

Field = tuple[bytes, bytes]
"""A header field: name and value."""

Metadata = Sequence[tuple[str, str | bytes]]
"""Metadata as handlers see it: values are bytes where the key ends in `-bin`, and text elsewhere."""


class Status(IntEnum):
    """The status codes of gRPC."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


OK_TRAILERS: tuple[Field, ...] = ((b"grpc-status", b"0"),)

PREFIX = struct.Struct(">BI")
"""Before each message: whether it is compressed, and its length in bytes."""

_SECONDS = {ord("H"): 3600.0, ord("M"): 60.0, ord("S"): 1.0, ord("m"): 1e-3, ord("u"): 1e-6, ord("n"): 1e-9}
_UNITS = ((b"n", 1e9), (b"u", 1e6), (b"m", 1e3), (b"S", 1.0), (b"M", 1 / 60), (b"H", 1 / 3600))
_MAX_TIMEOUT = 99_999_999
_UNQUOTED = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
_KEY = re.compile(r"[0-9a-z_.-]+")
_VALUE = re.compile(rb"[\x20-\x7e\x80-\xff]*")
_RESERVED = frozenset({b"te", b"content-type", b"content-length", b"grpc-status", b"grpc-message"})
# Fields of gRPC's own that applications see: what retries and tracing say.
_HANDED_ON = frozenset({b"grpc-previous-rpc-attempts", b"grpc-retry-pushback-ms", b"grpc-trace-bin", b"grpc-tags-bin"})


def is_grpc(content_type: bytes | None) -> bool:
    """Tells whether a content type is gRPC's, whatever its messages are encoded in."""
    return content_type is not None and (
        content_type == b"application/grpc" or content_type.startswith((b"application/grpc+", b"application/grpc;"))
    )


def prefixed(message: bytes, *, compressed: bool = False) -> bytes:
    """Puts the prefix before a message."""
    return PREFIX.pack(compressed, len(message)) + message


def parse_timeout(value: bytes) -> float:
    """Reads `grpc-timeout`.

    Returns:
        Seconds.

    Raises:
        ValueError: If it is not at most eight digits and a unit.
    """
    digits = value[:-1]
    if not digits.isdigit() or len(digits) > 8 or value[-1] not in _SECONDS:
        raise ValueError(f"expected a grpc-timeout of at most 8 digits and a unit of HMSmun, got {value[:32]!r}")
    return int(digits) * _SECONDS[value[-1]]


def format_timeout(seconds: float) -> bytes:
    """Writes `grpc-timeout`, in the finest unit that has room for it; never zero."""
    for unit, per_second in _UNITS:
        amount = max(1, round(seconds * per_second))
        if amount <= _MAX_TIMEOUT:
            return b"%d%s" % (amount, unit)
    return b"%dH" % _MAX_TIMEOUT


def quote(message: str) -> bytes:
    """Percent-encodes the message of a status."""
    if message.isascii() and message.isprintable() and "%" not in message:
        return message.encode()
    return urllib.parse.quote(message, safe=_UNQUOTED, errors="replace").encode()


def unquote(message: bytes) -> str:
    """Decodes the message of a status; what is no valid encoding stays as it is or becomes a replacement character."""
    return urllib.parse.unquote_to_bytes(message).decode(errors="replace")


def status_trailers(status: int, message: str = "", metadata: Metadata = ()) -> tuple[Field, ...]:
    """Gives the trailers that end a call.

    Raises:
        ValueError: If the metadata cannot be sent.
    """
    fields = [(b"grpc-status", b"%d" % status)]
    if message:
        fields.append((b"grpc-message", quote(message)))
    if metadata:
        fields += encode_metadata(metadata)
    return tuple(fields)


def read_status(fields: Iterable[Field]) -> tuple[Status, str]:
    """Reads status and message from trailers; UNKNOWN where there is none."""
    known = dict(fields)
    value = known.get(b"grpc-status")
    if value is None:
        return Status.UNKNOWN, "expected trailers with grpc-status, got none"
    if not value.isdigit() or len(value) > 2 or int(value) > max(Status):
        return Status.UNKNOWN, f"expected a status of 0 to 16, got {value[:32]!r}"
    return Status(int(value)), unquote(known.get(b"grpc-message", b""))


def encode_metadata(metadata: Metadata) -> list[Field]:
    """Turns metadata into header fields.

    Raises:
        ValueError: If a key or value cannot be sent.
    """
    fields = []
    for key, value in metadata:
        name = key.encode()
        if _KEY.fullmatch(key) is None or name in _RESERVED:
            raise ValueError(
                f"expected a metadata key of 0-9 a-z _ - . that gRPC does not use itself, got {key[:64]!r}"
            )
        if key.endswith("-bin"):
            if not isinstance(value, bytes):
                raise ValueError(f"expected bytes as the value of metadata {key[:64]!r}, got {type(value).__name__}")
            raw = base64.b64encode(value).rstrip(b"=")
        else:
            raw = value if isinstance(value, bytes) else value.encode("latin-1", "replace")
            if _VALUE.fullmatch(raw) is None:
                raise ValueError(
                    f"expected printable text as the value of metadata {key[:64]!r}, got control characters"
                )
        fields.append((name, raw))
    return fields


class Metadatum(NamedTuple):
    """One entry of metadata.

    Attributes:
        key: Its name.
        value: Bytes if the name ends in `-bin`.
    """

    key: str
    value: str | bytes


def decode_metadata(fields: Iterable[Field]) -> tuple[Metadatum, ...]:
    """Takes metadata out of header fields: what the application sent, and the user agent.

    A binary value that is no base64 is left out.
    """
    metadata: list[Metadatum] = []
    for name, value in fields:
        if name in _RESERVED or (name.startswith((b":", b"grpc-")) and name not in _HANDED_ON):
            continue
        key = name.decode("latin-1")
        if not key.endswith("-bin"):
            metadata.append(Metadatum(key, value.decode("latin-1")))
            continue
        for part in value.split(b","):
            padded = part.strip() + b"=" * (-len(part.strip()) % 4)
            with contextlib.suppress(binascii.Error):
                metadata.append(Metadatum(key, base64.b64decode(padded, validate=True)))
    return tuple(metadata)
