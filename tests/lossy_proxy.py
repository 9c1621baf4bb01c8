"""A proxy that loses an answer: it hands the request on, and hangs up when the answer comes back."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass
class LossyProxy:
    """A proxy that runs.

    Attributes:
        address: Where it listens.
        marker: Bytes by which it knows the answer that it is to lose.
        to_lose: How many of those it still loses.
    """

    address: str
    marker: bytes
    to_lose: int


@contextlib.contextmanager
def lossy_proxy(target: str, marker: bytes, to_lose: int = 1) -> Iterator[LossyProxy]:
    """Stands between a client and a server until the block ends.

    Args:
        target: The server's address.
        marker: See `LossyProxy`; some text that is in the answer.
        to_lose: How many answers it loses.
    """
    host, _, port = target.rpartition(":")
    listener = socket.create_server(("127.0.0.1", 0))
    proxy = LossyProxy(f"127.0.0.1:{listener.getsockname()[1]}", marker, to_lose)
    ends: list[socket.socket] = []

    def carry(source: socket.socket, sink: socket.socket, is_answer: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if is_answer and proxy.to_lose and proxy.marker in data:
                    proxy.to_lose -= 1
                    break
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection((host, int(port)))
                ends.extend([client, server])
                for arguments in ((client, server, False), (server, client, True)):
                    threading.Thread(target=carry, args=arguments, daemon=True).start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield proxy
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join()
        for end in ends:
            end.close()
