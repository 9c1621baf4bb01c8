"""The one server bootstrap: every gRPC server of Steersman is made, started and stopped here.

TLS and client tokens will be added here, once, for all of them.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from steersman.settings import Settings

_log = logging.getLogger(__name__)


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
        name: Full name, such as "steersman.v1.PolicyService".
        register: Adds the servicer to a server: `functools.partial` of the generated `add_..._to_server`.
        reflected: Whether reflection lists it; not if its stubs have it by another name, so that tools that look up
            what is listed would not find it.
    """

    name: str
    register: Callable[[grpc.aio.Server], None]
    reflected: bool = True


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
        servicer: health.aio.HealthServicer,
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
        self._health = servicer

    async def start(self) -> None:
        """Starts to listen, and says SERVING."""
        await self._server.start()
        self._started = True
        for name in self._names:
            await self._tell_health(name)
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
            await self._tell_health(service)

    async def _tell_health(self, service: str) -> None:
        status = health_pb2.HealthCheckResponse
        await self._health.set(service, status.NOT_SERVING if service in self._troubled else status.SERVING)

    async def stop(self) -> None:
        """Says NOT_SERVING, takes no new calls and gives those in flight time to finish."""
        await self._health.enter_graceful_shutdown()
        if self._on_stop is not None:
            self._on_stop()
        await self._server.stop(self._grace_seconds)


def create_server(
    settings: Settings,
    address: str,
    services: Sequence[Service],
    *,
    grace_seconds: float | None = None,
    on_stop: Callable[[], None] | None = None,
    share_port: bool = False,
) -> Server:
    """Makes a server; it does not listen yet, but its address is taken.

    Args:
        settings: For message sizes and the default grace period.
        address: `host:port`, or `unix:/path`. Port 0 takes a free port.
        services: What it serves.
        grace_seconds: How long calls may still run once it stops, before they are cancelled.
        on_stop: Called when it stops: health says so already, and calls in flight still run.
        share_port: Whether other processes may listen on the same port, each for a part of the connections.

    Raises:
        OSError: If the address is in use or not this machine's.
    """
    options = [
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        # Two servers on one port would each get a part of the calls: a mistake unless asked for.
        ("grpc.so_reuseport", int(share_port)),
        # Clients and replicas ping idle connections to learn of a dead peer; allow it.
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.keepalive_permit_without_calls", 1),
    ]
    server = grpc.aio.server(options=options)
    health_servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    names = [service.name for service in services]
    for service in services:
        service.register(server)
    reflected = [service.name for service in services if service.reflected]
    reflection.enable_server_reflection([*reflected, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise OSError(f"cannot listen on {address}: it is in use or not an address of this machine") from error
    if not address.startswith("unix:"):
        host, _, _ = address.rpartition(":")
        address = f"{host}:{port}"
    grace_seconds = settings.shutdown_grace_seconds if grace_seconds is None else grace_seconds
    return Server(server, address, names, health_servicer, grace_seconds, on_stop)


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
    """
    for server in servers:
        await server.start()
    await wait_for_stop_signal()
    for server in servers:
        await server.stop()
