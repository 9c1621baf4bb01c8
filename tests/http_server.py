"""A real HTTP server that answers whatever a test wants, on loopback and a port of its own."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class HttpRequest:
    """What was asked.

    Attributes:
        method: The method.
        path: The path, with its query.
        headers: The headers, by names in lower case.
        body: The body.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class HttpAnswer:
    """What is answered.

    Attributes:
        body: The body.
        status: The status.
        content_type: What the body claims to be.
        headers: More headers.
        raw: Sent as it is instead of all else, before the connection is closed.
    """

    body: bytes = b""
    status: int = 200
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: bytes | None = None


@dataclass
class HttpServer:
    """A server that listens.

    Attributes:
        url: Its address.
        answer: Gives the answer to a request; may be replaced at any time.
        requests: What was asked so far.
    """

    url: str
    answer: Callable[[HttpRequest], HttpAnswer]
    requests: list[HttpRequest] = field(default_factory=list)


@contextlib.contextmanager
def http_server(answer: Callable[[HttpRequest], HttpAnswer] = lambda _: HttpAnswer()) -> Iterator[HttpServer]:
    """Listens until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            request = HttpRequest(
                self.command,
                self.path,
                {name.lower(): value for name, value in self.headers.items()},
                self.rfile.read(length),
            )
            server.requests.append(request)
            found = server.answer(request)
            if found.raw is not None:
                self.wfile.write(found.raw)
                self.close_connection = True
                return
            self.send_response(found.status)
            for name, value in {"content-type": found.content_type, **found.headers}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(found.body)))
            self.end_headers()
            self.wfile.write(found.body)

        do_GET = do_PUT = do_POST = do_DELETE = do_PATCH = handle_any  # noqa: N815 - http.server's names

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - http.server's name
            """Says nothing."""

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listener.daemon_threads = True
    server = HttpServer(f"http://127.0.0.1:{listener.server_port}", answer)
    thread = threading.Thread(target=lambda: listener.serve_forever(poll_interval=0.01), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()
