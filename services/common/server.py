"""The one server bootstrap: every gRPC server of Steersman is made, started and stopped here.

TLS and client tokens will be added here, once, for all of them.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from services.common import grpcio
from services.common.handlers import method_handlers
from services.common.health import HealthServicer
from services.common.reflection import ReflectionServicer
from services.common.rules import CallLimit, Rules, SizeLimit
from services.common.servicers import Method, methods_of
from steersman.addresses import for_grpc
from steersman.settings import Settings

_log = logging.getLogger(__name__)


_MAX_REQUEST_BYTES = 1024 * 1024
"""Size of the largest request that carries no tensors."""

_NEVER_MILLISECONDS = 2**31 - 1
"""What gRPC takes for infinite."""

_SHORTEST_PING_INTERVAL_SECONDS = 5
"""Clients and replicas ping idle connections to learn of a dead peer. One that does it more often is cut off."""


class Listener(Protocol):
    """What listens from its start to its stop: a gRPC server, or what speaks another way."""

    async def start(self) -> None:
        """Starts to listen."""

    async def stop(self) -> None:
        """Takes nothing new, and ends what it has taken."""


@dataclass(frozen=True)
class Service:
    """One gRPC service of a server.

    Attributes:
        descriptor: The service, as its stubs describe it.
        servicer: Has its methods; see `method_handlers`.
        name: Full name under which it is served; empty for its own.
        reflected: Whether reflection lists it; not if its stubs have it by another name, so that tools that look up
            what is listed would not find it.
        carries_tensors: Whether its requests carry tensors. Then they may be as large as the settings say, and the
            servicer itself checks texts that it looks up, keeps or quotes. Else the server does all that.
    """

    descriptor: ServiceDescriptor
    servicer: object
    name: str = ""
    reflected: bool = True
    carries_tensors: bool = False

    @property
    def full_name(self) -> str:
        """The name under which it is served."""
        return self.name or self.descriptor.full_name


class Server:
    """A gRPC server with health and reflection.

    Attributes:
        address: Where it listens; with the real port where port 0 was asked for.
    """

    def __init__(
        self,
        server: grpc.aio.Server,
        address: str,
        names: Sequence[str],
        health_servicer: HealthServicer,
        reflection_servicer: ReflectionServicer,
        grace_seconds: float,
        on_stop: Callable[[], None] | None,
    ) -> None:
        self.address = address
        self._on_stop = on_stop
        self._grace_seconds = grace_seconds
        self._server = server
        self._names = ("", *names)
        self._troubled: set[str] = set()
        self._started = False
        self._health = health_servicer
        self._reflection = reflection_servicer

    async def start(self) -> None:
        """Starts to listen, and says SERVING."""
        await self._server.start()
        self._started = True
        for name in self._names:
            await self._report_health(name)
        _log.info("listening on %s", self.address)

    async def set_serving(self, service: str, *, serving: bool) -> None:
        """Has `grpc.health.v1` say SERVING or NOT_SERVING of one service, and nothing else of the others.

        Before the start it is kept until then; once the server stops, all of it is NOT_SERVING, whatever is set.

        Args:
            service: Full name of one of its services.
            serving: Whether the service does its work.
        """
        if serving:
            self._troubled.discard(service)
        else:
            self._troubled.add(service)
        if self._started:
            await self._report_health(service)

    async def _report_health(self, service: str) -> None:
        status = health_pb2.HealthCheckResponse
        await self._health.set(service, status.NOT_SERVING if service in self._troubled else status.SERVING)

    async def wait_until_ended(self) -> None:
        """Waits until it has ended: since it was stopped, or by a fault of its own."""
        await self._server.wait_for_termination()

    async def stop(self) -> None:
        """Says NOT_SERVING, takes no new calls and gives those in flight time to finish."""
        await self._health.enter_graceful_shutdown()
        if self._on_stop is not None:
            self._on_stop()
        self._reflection.end()
        await self._server.stop(self._grace_seconds)


def create_server(
    settings: Settings,
    address: str,
    services: Sequence[Service],
    *,
    grace_seconds: float | None = None,
    on_stop: Callable[[], None] | None = None,
    share_port: bool = False,
    connection_age_seconds: float = 0.0,
) -> Server:
    """Makes a server; it does not listen yet, but its address is taken.

    Args:
        settings: For message sizes and the default grace period.
        address: `host:port`, or `unix:/path`. Port 0 takes a free port.
        services: What it serves.
        grace_seconds: How long calls may still run once it stops, before they are cancelled.
        on_stop: Called when it stops: health says so already, and calls in flight still run.
        share_port: Whether other processes may listen on the same port, each for a part of the connections.
        connection_age_seconds: Age at which clients are asked to replace a connection. It is cut off at twice that age,
            so streams should have ended by then; see `OpenStreams`. 0 for never.

    Raises:
        OSError: If the address is in use or not this machine's.
    """
    server, add_methods = _backend(settings, share_port=share_port, connection_age_seconds=connection_age_seconds)
    health_servicer = HealthServicer()
    reflected = [service.full_name for service in services if service.reflected]
    reflection_servicer = ReflectionServicer([*reflected, health.SERVICE_NAME, reflection.SERVICE_NAME])
    # Their stubs say that they are of another class than all others, which they are not.
    health_service = Service(health_pb2.DESCRIPTOR.services_by_name["Health"], health_servicer)  # type: ignore[arg-type]
    reflection_service = Service(
        reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"],  # type: ignore[arg-type]
        reflection_servicer,
    )
    calls, streams = _call_limits(settings)
    # Whoever asks for a server's health is told, however many calls it answers.
    unlimited = CallLimit("calls", "", sys.maxsize, 0)
    for service in (*services, health_service, reflection_service):
        rules = Rules(
            *_size_limits(settings, service),
            check_texts=not service.carries_tensors,
            calls=unlimited if service is health_service else calls,
            streams=streams,
        )
        add_methods(service.full_name, methods_of(service.descriptor, service.servicer, rules))
    try:
        port = server.add_insecure_port(for_grpc(address))
    except RuntimeError as error:
        raise OSError(f"cannot listen on {address}: it is in use or not an address of this machine") from error
    if not address.startswith("unix:"):
        host, _, _ = address.rpartition(":")
        address = f"{host}:{port}"
    grace_seconds = settings.shutdown_grace_seconds if grace_seconds is None else grace_seconds
    names = [service.full_name for service in services]
    return Server(server, address, names, health_servicer, reflection_servicer, grace_seconds, on_stop)


def _backend(
    settings: Settings, *, share_port: bool, connection_age_seconds: float
) -> tuple[grpc.aio.Server, Callable[[str, Sequence[Method]], None]]:
    """Makes the gRPC server that the settings ask for, and gives what adds a service's methods to it."""
    if settings.grpc_server == "native":
        try:
            from services.common import native
        except ImportError as error:
            _log.warning("using grpcio's server: ours needs the package ngh2, which is missing here: %s", error)
        else:
            server = native.server(settings, share_port=share_port, connection_age_seconds=connection_age_seconds)
            return server, functools.partial(native.add_methods, server)
    options = _options(settings, share_port=share_port, connection_age_seconds=connection_age_seconds)
    fallback = grpcio.server(options)
    return fallback, functools.partial(_add_handlers, fallback)


def _add_handlers(server: grpc.aio.Server, service: str, methods: Sequence[Method]) -> None:
    server.add_registered_method_handlers(service, method_handlers(methods))


def _call_limits(settings: Settings) -> tuple[CallLimit, CallLimit]:
    """Gives the limits for calls with one answer, and for streams, which all services of a server share."""
    pushback = settings.retry_pushback_milliseconds
    return (
        CallLimit("calls", "STEERSMAN_MAX_CALLS", settings.max_calls, pushback),
        CallLimit("streams", "STEERSMAN_MAX_STREAMS", settings.max_streams, pushback),
    )


def _size_limits(settings: Settings, service: Service) -> tuple[SizeLimit, SizeLimit]:
    """Gives the limits for the requests of a service, and for its answers."""
    most_bytes = settings.max_message_bytes
    smaller = SizeLimit(most_bytes, "send smaller batches, or raise STEERSMAN_MAX_MESSAGE_BYTES at both ends")
    less = SizeLimit(most_bytes, "ask for less at a time, or raise STEERSMAN_MAX_MESSAGE_BYTES at both ends")
    if service.carries_tensors:
        return smaller, less
    return SizeLimit(min(_MAX_REQUEST_BYTES, most_bytes), "ask for less at a time"), less


def _options(settings: Settings, *, share_port: bool, connection_age_seconds: float) -> list[tuple[str, int]]:
    """Gives the options of gRPC's server."""
    age_milliseconds = _milliseconds(connection_age_seconds)
    return [
        # Requests up to twice the limit are read, so that each can be refused in words, and on a stream alone. What is
        # larger than that ends its call.
        ("grpc.max_receive_message_length", min(2 * settings.max_message_bytes, 2**31 - 1)),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        # Two servers on one port would each get a part of the calls: a mistake unless asked for.
        ("grpc.so_reuseport", int(share_port)),
        ("grpc.max_concurrent_streams", settings.max_calls_per_connection),
        ("grpc.max_metadata_size", settings.max_metadata_bytes),
        ("grpc.absolute_max_metadata_size", settings.max_metadata_bytes),
        ("grpc.max_connection_idle_ms", _milliseconds(settings.max_connection_idle_seconds)),
        ("grpc.max_connection_age_ms", age_milliseconds),
        ("grpc.max_connection_age_grace_ms", age_milliseconds),
        ("grpc.keepalive_time_ms", _milliseconds(settings.keepalive_seconds)),
        ("grpc.keepalive_timeout_ms", _milliseconds(settings.keepalive_timeout_seconds)),
        # Newer versions of gRPC wait for the answer to a ping by this one.
        ("grpc.http2.ping_timeout_ms", _milliseconds(settings.keepalive_timeout_seconds)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", _SHORTEST_PING_INTERVAL_SECONDS * 1000),
    ]


def _milliseconds(seconds: float) -> int:
    """Gives a duration as gRPC takes it, for which 0 is never."""
    return min(round(seconds * 1000), _NEVER_MILLISECONDS) or _NEVER_MILLISECONDS


async def wait_for_stop_signal() -> None:
    """Waits until the process is told to stop by SIGTERM or SIGINT."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    await stopped.wait()
    _log.info("stopping")


async def serve_until_stopped(*servers: Listener) -> None:
    """Starts servers, waits for a stop signal and stops them in the same order.

    Args:
        *servers: The servers.

    Raises:
        RuntimeError: If one ended by itself. The process had better end too, so that its supervisor starts another.
    """
    for server in servers:
        await server.start()
    told_to_stop = asyncio.create_task(wait_for_stop_signal())
    ended = [asyncio.create_task(server.wait_until_ended()) for server in servers if isinstance(server, Server)]
    try:
        await asyncio.wait([told_to_stop, *ended], return_when=asyncio.FIRST_COMPLETED)
        if not told_to_stop.done():
            raise RuntimeError("expected servers to go on until they are stopped, but one has ended by itself")
        for server in servers:
            await server.stop()
    finally:
        for task in (told_to_stop, *ended):
            task.cancel()
