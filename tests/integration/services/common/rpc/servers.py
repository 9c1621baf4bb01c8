"""The same service on grpcio's server, and on ours with a servicer and with direct handlers, each in its own thread."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import grpc
import uvloop
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from services.common.rpc import Call, CallError, Limits, Receiver, Server, Status

Kind = Literal["grpcio", "servicer", "direct"]
"""grpcio's server; ours with a servicer; ours with direct handlers where there are any."""

SERVICE = "test.Test"
ECHO, FAIL, RAISE, SLEEP, INSPECT = (f"/{SERVICE}/{name}" for name in ("Echo", "Fail", "Raise", "Sleep", "Inspect"))
STREAM, COLLECT, REPEAT, METADATA = (f"/{SERVICE}/{name}" for name in ("Stream", "Collect", "Repeat", "Metadata"))

_Context = grpc.aio.ServicerContext[Any, Any]
_Result = TypeVar("_Result")


@dataclass
class Seen:
    """What the handlers have seen.

    Attributes:
        sleeping: How many calls of `Sleep` have begun.
        cancelled: How many of them were cancelled.
        done: How many done callbacks were called.
        collected: Messages that `Collect` has read; it reads on only while `may_read` is set.
        changed: Notified of each change.
    """

    sleeping: int = 0
    cancelled: int = 0
    done: int = 0
    collected: int = 0
    may_read: threading.Event = field(default_factory=threading.Event)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def add(self, name: str) -> None:
        with self.changed:
            setattr(self, name, getattr(self, name) + 1)
            self.changed.notify_all()

    def wait(self, name: str, count: int = 1, timeout: float = 20) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: getattr(self, name) >= count, timeout), (
                f"{name}: {getattr(self, name)}"
            )


class Servicer:
    """The service as servicers are written for grpc.aio; messages are bytes."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen

    async def echo(self, request: bytes, _: _Context) -> bytes:
        return request

    async def fail(self, request: bytes, context: _Context) -> bytes:
        wanted = json.loads(request)
        trailing = tuple((key, value) for key, value in wanted.get("trailing", []))
        await context.abort(grpc.StatusCode[wanted["code"]], wanted.get("details", ""), trailing)

    async def raise_(self, request: bytes, _: _Context) -> bytes:
        raise ValueError(request.decode())

    async def sleep(self, _: bytes, context: _Context) -> bytes:
        context.add_done_callback(self._done)  # type: ignore[arg-type] # the stubs want another name of its argument
        self._seen.add("sleeping")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self._seen.add("cancelled")
            raise
        return b"awake"

    def _done(self, _: _Context) -> None:
        self._seen.add("done")

    async def inspect(self, _: bytes, context: _Context) -> bytes:
        found = {
            "metadata": [
                [key, value if isinstance(value, str) else value.hex()]
                for key, value in context.invocation_metadata() or ()
            ],
            "peer": context.peer(),
            "time_remaining": context.time_remaining(),
            "auth": {key: [value.decode() for value in values] for key, values in context.auth_context().items()},
            "identity_key": context.peer_identity_key(),
            "identities": [value.decode() for value in context.peer_identities() or ()],
        }
        return json.dumps(found).encode()

    async def metadata(self, request: bytes, context: _Context) -> AsyncIterator[bytes]:
        """Echoes what clients call `initial` before the answer, and `trailing` after it."""
        sent = list(context.invocation_metadata() or ())
        await context.send_initial_metadata([pair for pair in sent if pair[0].startswith("initial")])
        context.set_trailing_metadata(tuple(pair for pair in sent if pair[0].startswith("trailing")))
        yield request

    async def stream(self, requests: AsyncIterator[bytes], _: _Context) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request

    async def collect(self, _: AsyncIterator[bytes], context: _Context) -> bytes:
        """Reads only while it may; answers how many messages and bytes there were."""
        count = size = 0
        while True:
            while not self._seen.may_read.is_set():  # noqa: ASYNC110 - set by another thread
                await asyncio.sleep(0.01)
            message = await context.read()
            if message is grpc.aio.EOF:
                return f"{count} {size}".encode()
            count += 1
            size += len(message)
            self._seen.add("collected")

    async def repeat(self, request: bytes, context: _Context) -> None:
        """Writes as many messages of as many bytes as it is told."""
        count, size = map(int, request.split())
        for number in range(count):
            await context.write(number.to_bytes(4, "big") + bytes(size - 4))
            self._seen.add("collected")

    def register(self, server: grpc.aio.Server) -> None:
        handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            "Echo": grpc.unary_unary_rpc_method_handler(self.echo),
            "Fail": grpc.unary_unary_rpc_method_handler(self.fail),
            "Raise": grpc.unary_unary_rpc_method_handler(self.raise_),
            "Sleep": grpc.unary_unary_rpc_method_handler(self.sleep),
            "Inspect": grpc.unary_unary_rpc_method_handler(self.inspect),
            "Metadata": grpc.unary_stream_rpc_method_handler(self.metadata),
            "Stream": grpc.stream_stream_rpc_method_handler(self.stream),
            "Collect": grpc.stream_unary_rpc_method_handler(self.collect),
            "Repeat": grpc.unary_stream_rpc_method_handler(self.repeat),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))


class DirectStream(Receiver):
    """Echoes a stream without a task."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def message(self, message: bytes) -> None:
        self._call.send(message)

    def half_close(self) -> None:
        self._call.finish()


def register_direct(server: Server, seen: Seen) -> None:
    """Adds direct handlers for what is hot in real life."""

    def echo(request: bytes, call: Call) -> None:
        call.finish(request)

    def fail(request: bytes, _: Call) -> None:
        wanted = json.loads(request)
        trailing = tuple((key, value) for key, value in wanted.get("trailing", []))
        raise CallError(Status[wanted["code"]], wanted.get("details", ""), trailing)

    def raise_(request: bytes, _: Call) -> None:
        raise ValueError(request.decode())

    def sleep(_: bytes, call: Call) -> None:
        def cancelled() -> None:
            seen.add("cancelled")
            seen.add("done")

        call.on_cancel = cancelled
        seen.add("sleeping")

    methods = server.methods
    methods.add_unary(ECHO, echo, bytes)
    methods.add_unary(FAIL, fail, bytes)
    methods.add_unary(RAISE, raise_, bytes)
    methods.add_unary(SLEEP, sleep, bytes)
    methods.add_stream(STREAM, DirectStream)


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a server is made, whichever it is.

    Attributes:
        limits: For ours; grpcio gets what it has of them.
        address: Where it listens.
        share_port: Whether others may listen there, too.
        tls: For ours: certificates.
        credentials: The same for grpcio.
        register: Adds more services.
    """

    limits: Limits = field(default_factory=Limits)
    address: str = "127.0.0.1:0"
    share_port: bool = False
    tls: ssl.SSLContext | None = None
    credentials: grpc.ServerCredentials | None = None
    register: Callable[[grpc.aio.Server], None] | None = None


class RunningServer:
    """A server in a thread with an event loop of its own.

    Attributes:
        kind: Which it is.
        seen: What its handlers see.
        port: Where it listens.
        server: The server; to be used in its loop only.
    """

    port: int
    server: grpc.aio.Server

    def __init__(self, kind: Kind, options: Options) -> None:
        self.kind = kind
        self.seen = Seen()
        self._options = options
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name=f"server-{kind}")

    @property
    def address(self) -> str:
        """Where clients find it."""
        chosen = self._options.address
        return chosen if chosen.startswith("unix:") else f"{chosen.rpartition(':')[0]}:{self.port}"

    def start(self) -> None:
        self._thread.start()
        self._started.result(30)

    def within(self, coroutine: Coroutine[Any, Any, _Result]) -> Future[_Result]:
        """Runs a coroutine in the server's loop."""
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def stop(self, grace: float | None = None) -> Future[None]:
        """Stops the server; its thread ends with it."""
        return self.within(self.server.stop(grace))

    def close(self) -> None:
        """Stops the server if it runs, and waits for its thread."""
        with contextlib.suppress(RuntimeError):
            if self._thread.is_alive():
                self.stop()
        self._thread.join(30)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        try:
            # Both loops are to do; the direct handlers get the fast one, as in real life.
            (asyncio if self.kind == "servicer" else uvloop).run(self._serve())
        except BaseException as error:
            if self._started.done():
                raise
            self._started.set_exception(error)

    async def _serve(self) -> None:
        options = self._options
        self._loop = asyncio.get_running_loop()
        self.server = make_server(self.kind, options)
        Servicer(self.seen).register(self.server)
        if self.kind == "direct":
            assert isinstance(self.server, Server)
            register_direct(self.server, self.seen)
        if options.register is not None:
            options.register(self.server)
        servicer = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(servicer, self.server)
        await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
        reflection.enable_server_reflection([SERVICE, reflection.SERVICE_NAME], self.server)
        if options.tls is None:
            self.port = self.server.add_insecure_port(options.address)
        elif self.kind == "grpcio":
            assert options.credentials is not None
            self.port = self.server.add_secure_port(options.address, options.credentials)
        else:
            assert isinstance(self.server, Server)
            self.port = self.server.add_secure_port(options.address, options.tls)
        await self.server.start()
        self._started.set_result(None)
        await self.server.wait_for_termination()
        # What was cancelled ends before its loop does.
        await asyncio.sleep(0.05)


def make_server(kind: Kind, options: Options) -> grpc.aio.Server:
    """Makes a server of either library with the same options."""
    limits = options.limits
    if kind != "grpcio":
        return Server(limits, share_port=options.share_port)
    milliseconds = {
        "grpc.max_connection_idle_ms": limits.max_idle_seconds,
        "grpc.max_connection_age_ms": limits.max_age_seconds,
        "grpc.max_connection_age_grace_ms": limits.max_age_grace_seconds,
        "grpc.keepalive_time_ms": limits.keepalive_seconds,
        "grpc.keepalive_timeout_ms": limits.keepalive_timeout_seconds if limits.keepalive_seconds else 0,
    }
    return grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", limits.max_receive_message_bytes),
            ("grpc.max_send_message_length", limits.max_send_message_bytes),
            ("grpc.max_concurrent_streams", limits.max_concurrent_calls),
            ("grpc.absolute_max_metadata_size", limits.max_metadata_bytes),
            ("grpc.so_reuseport", int(options.share_port)),
            *((name, int(seconds * 1000)) for name, seconds in milliseconds.items() if seconds),
        ]
    )


@contextlib.contextmanager
def running(kind: Kind, options: Options | None = None) -> Iterator[RunningServer]:
    """Runs a server until the block ends."""
    server = RunningServer(kind, options or Options())
    server.start()
    try:
        yield server
    finally:
        server.seen.may_read.set()
        server.close()
