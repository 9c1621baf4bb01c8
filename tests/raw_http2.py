"""HTTP/2 by hand, for what no gRPC client sends."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Sequence

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
END_STREAM, END_HEADERS, ACK = 1, 4, 1


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Writes one frame (RFC 9113, section 4.1)."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def headers(fields: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Writes header fields as they are, each up to 126 bytes (RFC 7541, section 6.2.2)."""
    return b"".join(b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in fields)


def call(path: bytes, message: bytes = b"", stream: int = 1) -> bytes:
    """Writes a whole call with one message."""
    fields = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path),
        (b":authority", b"test"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
    ]
    data = b"\0" + struct.pack(">I", len(message)) + message
    return frame(HEADERS, END_HEADERS, stream, headers(fields)) + frame(DATA, END_STREAM, stream, data)


def connect(address: str, timeout: float = 20.0) -> socket.socket:
    """Connects to a server and greets it.

    Args:
        address: `host:port`.
        timeout: Seconds that each later wait for it may take.
    """
    host, _, port = address.rpartition(":")
    connection = socket.create_connection((host, int(port)), timeout=timeout)
    connection.sendall(PREFACE + frame(SETTINGS, 0, 0))
    return connection


def frames(connection: socket.socket) -> Iterator[tuple[int, int, int, bytes]]:
    """Reads frames until the server hangs up: kind, flags, stream and payload of each."""
    buffer = b""
    while data := connection.recv(65536):
        buffer += data
        while len(buffer) >= 9 and len(buffer) >= 9 + (length := int.from_bytes(buffer[:3], "big")):
            yield buffer[3], buffer[4], int.from_bytes(buffer[5:9], "big"), buffer[9 : 9 + length]
            buffer = buffer[9 + length :]
