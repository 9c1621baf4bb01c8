"""The one place where channels are opened, sync and aio.

TLS and what proves who calls will come in here, for all of them: `_open` and `_open_aio` are where they belong.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import grpc

from steersman._client import targets
from steersman._client.line import Line, MultiCallable
from steersman._client.options import ConnectionOptions
from steersman._client.targets import Argument

_Channel = TypeVar("_Channel")


def _open(target: str, arguments: list[Argument]) -> grpc.Channel:
    return grpc.insecure_channel(target, options=arguments)


def _open_aio(target: str, arguments: list[Argument]) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(target, options=arguments)


class _Methods(Generic[_Channel]):
    """What stubs take from a channel: its methods.

    Args:
        line: Gives gRPC's channel for each call.
    """

    def __init__(self, line: Line[_Channel]) -> None:
        self.line = line

    def unary_unary(self, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - as gRPC's
        return MultiCallable(self.line, "unary_unary", arguments, named)

    def unary_stream(self, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - as gRPC's
        return MultiCallable(self.line, "unary_stream", arguments, named)

    def stream_unary(self, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - as gRPC's
        return MultiCallable(self.line, "stream_unary", arguments, named)

    def stream_stream(self, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - as gRPC's
        return MultiCallable(self.line, "stream_stream", arguments, named)


class Channel(_Methods[grpc.Channel], grpc.Channel):
    """A channel for stubs, opened by `open_channel`."""

    def subscribe(self, callback: Callable[[grpc.ChannelConnectivity], None], try_to_connect: bool = False) -> None:
        """Tells of changes of the connection; gRPC says how."""
        self.line.open().channel.subscribe(callback, try_to_connect)

    def unsubscribe(self, callback: Callable[[grpc.ChannelConnectivity], None]) -> None:
        """Tells of them no more."""
        self.line.open().channel.unsubscribe(callback)

    def close(self) -> None:
        """Closes it; calls in flight are cancelled."""
        if (channel := self.line.leave()) is not None:
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class AioChannel(_Methods[grpc.aio.Channel], grpc.aio.Channel):
    """A channel for the stubs of one event loop, opened by `open_aio_channel`."""

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Tells how the connection is; gRPC says how."""
        return self.line.open().channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Waits until it is otherwise."""
        await self.line.open().channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Waits until it is up."""
        await self.line.open().channel.channel_ready()

    async def close(self, grace: float | None = None) -> None:
        """Closes it; calls in flight are cancelled once `grace` seconds have passed."""
        if (channel := self.line.leave()) is not None:
            await channel.close(grace)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


def open_channel(options: ConnectionOptions | None = None) -> Channel:
    """Opens a channel for stubs. It connects with the first call.

    Args:
        options: Where it leads; the defaults if None.

    Example:
        >>> with open_channel(ConnectionOptions(["gateway:50051"])) as channel:
        ...     stub = policy_pb2_grpc.PolicyServiceStub(channel)
    """
    return Channel(Line(options or ConnectionOptions(), _open, targets.look_up))


def open_aio_channel(options: ConnectionOptions | None = None) -> AioChannel:
    """Opens a channel for the stubs of one event loop. It connects with the first call.

    Args:
        options: Where it leads; the defaults if None.

    Example:
        >>> async with open_channel(ConnectionOptions(["gateway:50051"])) as channel:
        ...     stub = policy_pb2_grpc.PolicyServiceStub(channel)
    """
    return AioChannel(Line(options or ConnectionOptions(), _open_aio, targets.look_up))
