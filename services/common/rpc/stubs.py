"""The client for generated code: a stub takes it for a `grpc.aio.Channel`, and its callers see `grpc.aio`'s errors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, NoReturn, Self, TypeVar

import grpc

from services.common.rpc.client import Channel
from services.common.rpc.client_streams import Stream
from services.common.rpc.errors import CallError
from services.common.rpc.wire import Metadata, decode_metadata

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")

_UNTOLD = "this channel connects when there is something to call, and does not tell of its state"


class StubChannel(grpc.aio.Channel):
    """Gives stubs their methods: those of one request and one answer, and those of many, either way.

    Args:
        channel: Makes the calls; closed with this.

    Example:
        >>> stub = GreeterStub(StubChannel(Channel("127.0.0.1:50051")))
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def unary_unary(  # type: ignore[override] # generated code always says how messages are read and written
        self,
        method: str,
        request_serializer: Callable[[_Request], bytes],
        response_deserializer: Callable[[bytes], _Response],
        _registered_method: bool = False,
    ) -> Callable[..., Any]:
        """Gives a method of one request and one answer, to be awaited."""

        async def call(request: _Request, *, timeout: float | None = None, metadata: Metadata = ()) -> _Response:
            message = request_serializer(request)
            try:
                answer = await self._channel.unary(method, message, timeout=timeout, metadata=metadata)
            except CallError as error:
                _raise(error)
            return response_deserializer(answer)

        return call

    def stream_stream(  # type: ignore[override] # generated code always says how messages are read and written
        self,
        method: str,
        request_serializer: Callable[[_Request], bytes],
        response_deserializer: Callable[[bytes], _Response],
        _registered_method: bool = False,
    ) -> Callable[..., StubStream[_Request, _Response]]:
        """Gives a method of many requests and many answers."""

        def call(*, timeout: float | None = None, metadata: Metadata = ()) -> StubStream[_Request, _Response]:
            opening = asyncio.ensure_future(self._channel.stream(method, timeout=timeout, metadata=metadata))
            return StubStream(opening, request_serializer, response_deserializer)

        return call

    def unary_stream(self, method: str, *_arguments: object, **_named: object) -> Any:  # noqa: ANN401 - never called
        """Gives a method that says that it cannot be called here, since stubs take all methods of their service."""
        return _refused(method)

    def stream_unary(self, method: str, *_arguments: object, **_named: object) -> Any:  # noqa: ANN401 - likewise
        """See `unary_stream`."""
        return _refused(method)

    def get_state(self, try_to_connect: bool = False) -> NoReturn:
        """Says that it does not tell."""
        raise NotImplementedError(_UNTOLD)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> NoReturn:
        """Says that it does not tell."""
        raise NotImplementedError(_UNTOLD)

    async def channel_ready(self) -> NoReturn:
        """Says that it does not tell."""
        raise NotImplementedError(_UNTOLD)

    async def close(self, grace: float | None = None) -> None:
        """Ends the connection, and with it every call."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


class StubStream(Generic[_Request, _Response]):
    """A stream as `grpc.aio` has it. What is written is sent at once, whatever else the loop is about to do.

    Args:
        opening: Has the stream once there is a connection.
        serialize: Makes bytes of a request.
        deserialize: Reads an answer.
    """

    def __init__(
        self,
        opening: asyncio.Future[Stream],
        serialize: Callable[[_Request], bytes],
        deserialize: Callable[[bytes], _Response],
    ) -> None:
        self._opening = opening
        self._serialize = serialize
        self._deserialize = deserialize
        # Whoever writes or reads learns of it; a call that nobody uses any more has nobody to tell.
        opening.add_done_callback(lambda done: done.cancelled() or done.exception())

    def write_now(self, request: _Request) -> bool:
        """Sends a request if there is room, without waiting; tells whether it did."""
        stream = self._running()
        if stream is None or stream.is_full:
            return False
        stream.send_now(self._serialize(request))
        return True

    async def write(self, request: _Request) -> None:
        """Sends a request, and waits while much of what was sent is on its way.

        Raises:
            grpc.aio.AioRpcError: If there is no connection.
            asyncio.InvalidStateError: If the call has ended.
        """
        stream = await self._opened()
        if stream.done:
            raise asyncio.InvalidStateError("the call has ended")
        stream.send_now(self._serialize(request))
        await stream.room()

    async def done_writing(self) -> None:
        """Says that no more requests come.

        Raises:
            grpc.aio.AioRpcError: If there is no connection.
        """
        (await self._opened()).half_close()

    async def read(self) -> Any:  # noqa: ANN401 - an answer, or gRPC's mark, which has no type
        """Waits for the next answer; `grpc.aio.EOF` after the last.

        Raises:
            grpc.aio.AioRpcError: If the call has failed.
        """
        stream = await self._opened()
        try:
            answer = await stream.read()
        except CallError as error:
            _raise(error, stream)
        return grpc.aio.EOF if answer is None else self._deserialize(answer)

    def cancel(self) -> bool:
        """Ends the call; tells whether it had not ended before."""
        if not self._opening.done():
            return self._opening.cancel()
        stream = self._running()
        if stream is not None:
            stream.cancel()
        return stream is not None

    def _running(self) -> Stream | None:
        """Gives the stream if there is a connection, and it has not ended."""
        opening = self._opening
        if not opening.done() or opening.cancelled() or opening.exception() is not None or opening.result().done:
            return None
        return opening.result()

    async def _opened(self) -> Stream:
        try:
            # Two may wait for it, and one who gives up does not take it from the other.
            return await asyncio.shield(self._opening)
        except CallError as error:
            _raise(error)


def _raise(error: CallError, stream: Stream | None = None) -> NoReturn:
    initial = decode_metadata(stream.initial) if stream is not None else ()
    raise grpc.aio.AioRpcError(
        grpc.StatusCode[error.status.name],
        grpc.aio.Metadata(*initial),
        grpc.aio.Metadata(*error.trailing),
        error.message,
    ) from None


def _refused(method: str) -> Callable[..., NoReturn]:
    def call(*_arguments: object, **_named: object) -> NoReturn:
        raise NotImplementedError(f"{method} needs grpcio's channel: only one request to one answer, or many to many")

    return call
