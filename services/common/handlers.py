"""From a servicer's methods to the handlers that gRPC for asyncio calls; which status an error becomes."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any, Self

import grpc
from google.protobuf.message import Message

from services.common.direct_grpcio import stream_coroutine, unary_coroutine
from services.common.errors import Status, status_of
from services.common.rules import Unreadable
from services.common.servicers import Method

_Context = grpc.aio.ServicerContext[Any, Any]


def method_handlers(methods: Iterable[Method]) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
    """Makes handlers of methods, by name. Whatever a method raises ends its call with a status."""
    return {method.name: _handler(method) for method in methods}


def _handler(method: Method) -> grpc.RpcMethodHandler[Any, Any]:
    if method.client_streaming:
        if method.direct:
            whole = stream_coroutine(method.call, method.write)
            return grpc.stream_stream_rpc_method_handler(_ended(method, whole), method.read_streamed)
        return grpc.stream_stream_rpc_method_handler(_answers(method, _readable), method.read_streamed)
    if method.server_streaming:
        if inspect.isasyncgenfunction(method.call):
            return grpc.unary_stream_rpc_method_handler(_answers(method, method.read))
        return grpc.unary_stream_rpc_method_handler(_ended(method, _write(method)), None, method.write)
    call = unary_coroutine(method.call) if method.direct else method.call
    return grpc.unary_unary_rpc_method_handler(_ended(method, _answer(method, call)))


def _answer(
    method: Method, call: Callable[[Message, _Context], Awaitable[Message]]
) -> Callable[[bytes, _Context], Awaitable[bytes]]:
    """Has a method that returns its answer take bytes and return bytes."""
    read, write = method.read, method.write

    async def answer(data: bytes, context: _Context) -> bytes:
        return write(await call(read(data), context))

    return answer


def _write(method: Method) -> Callable[[bytes, _Context], Awaitable[None]]:
    """Has a method that writes its answers to its context, as that of the health service does, take bytes."""

    async def write(data: bytes, context: _Context) -> None:
        await method.call(method.read(data), context)

    return write


def _ended(
    method: Method, call: Callable[[Any, _Context], Awaitable[bytes | None]]
) -> Callable[[Any, _Context], Awaitable[bytes | None]]:
    """Handles a call with a method that returns."""

    async def handler(requests: Any, context: _Context) -> bytes | None:  # noqa: ANN401 - bytes, or a stream
        with _Guard(method.title) as guard, method.limit:
            return await call(requests, context)
        # gRPC keeps the exception that ends a call, which holds this frame: nothing large may be left in it.
        ending = context.abort(*guard.status)
        del requests, context
        return await ending

    return handler


def _answers(method: Method, read: Callable[[Any], object]) -> Callable[[Any, _Context], AsyncIterator[bytes]]:
    """Handles a call with a method that yields its answers."""

    async def handler(requests: Any, context: _Context) -> AsyncIterator[bytes]:  # noqa: ANN401 - bytes, or a stream
        with _Guard(method.title) as guard, method.limit:
            async for response in method.call(read(requests), context):
                yield method.write(response)
            return
        # gRPC keeps the exception that ends a call, which holds this frame: nothing large may be left in it.
        ending = context.abort(*guard.status)
        del requests, context
        await ending

    return handler


class _Guard:
    """Turns what a method raises into the status that its call ends with, and goes on after the block.

    Args:
        title: The method, for the log.

    Attributes:
        status: The status, once something was raised.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self.status: Status

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception) or isinstance(error, grpc.aio.AbortError):
            return False
        self.status = status_of(error, self._title)
        return True


async def _readable(requests: AsyncIterator[Message | Unreadable]) -> AsyncIterator[Message]:
    async for request in requests:
        if isinstance(request, Unreadable):
            raise request.error
        yield request
