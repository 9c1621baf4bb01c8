"""A proxy as companies have one: it tunnels (`CONNECT`) to wherever it knows, and tells what it was asked for."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field


@dataclass
class ConnectProxy:
    """The proxy.

    Attributes:
        url: What the environment names it by.
        leads: Where it really goes, by the address that it is asked for.
        asked: The addresses that it was asked for.
        headers: The headers that came with them, as text.
    """

    url: str
    leads: Mapping[str, str]
    asked: list[str] = field(default_factory=list)
    headers: list[str] = field(default_factory=list)


@contextlib.contextmanager
def connect_proxy(leads: Mapping[str, str]) -> Iterator[ConnectProxy]:
    """Runs a proxy until the block ends.

    Args:
        leads: Where it leads, by the address that it is asked for.
    """
    sockets: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = ConnectProxy(f"http://127.0.0.1:{listener.getsockname()[1]}", leads)

        def take() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client = listener.accept()[0]
                    sockets.append(client)
                    threading.Thread(target=tunnel, args=(client,), daemon=True).start()

        def tunnel(client: socket.socket) -> None:
            with contextlib.suppress(OSError):
                head = b""
                while b"\r\n\r\n" not in head:
                    head += client.recv(65536)
                first, _, headers = head.decode().partition("\r\n")
                address = first.split()[1]
                proxy.asked.append(address)
                proxy.headers.append(headers)
                if address not in proxy.leads:
                    client.sendall(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
                    client.close()
                    return
                host, _, port = proxy.leads[address].rpartition(":")
                server = socket.create_connection((host, int(port)))
                sockets.append(server)
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                threading.Thread(target=copy, args=(server, client), daemon=True).start()
                copy(client, server)

        def copy(source: socket.socket, target: socket.socket) -> None:
            with contextlib.suppress(OSError):
                while data := source.recv(65536):
                    target.sendall(data)
                target.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=take)
        thread.start()
        try:
            yield proxy
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for each in sockets:
                each.close()
