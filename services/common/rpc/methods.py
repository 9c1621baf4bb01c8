"""What a server can be asked for: direct handlers, which are fast, and servicers in grpc.aio's style."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

import grpc

from services.common.rpc.call import Call
from services.common.rpc.errors import CallError
from services.common.rpc.receiver import Receiver
from services.common.rpc.servicing import Servicing
from services.common.rpc.wire import Status

_Request = TypeVar("_Request")

Opener = Callable[[Call], Receiver]
"""Begins a call: gives what is told of its messages."""


class Methods:
    """The methods of a server, by path. A direct handler goes before a servicer's for the same path.

    Attributes:
        tasks: Those that run methods of servicers.
    """

    def __init__(self) -> None:
        self._direct: dict[bytes, Opener] = {}
        self._registered: dict[bytes, grpc.RpcMethodHandler[Any, Any]] = {}
        self._generic: list[grpc.GenericRpcHandler] = []
        self.tasks: set[asyncio.Task[None]] = set()

    def add_unary(
        self, path: str, handler: Callable[[_Request, Call], None], deserialize: Callable[[bytes], _Request]
    ) -> None:
        """Adds a direct handler of one request and one answer: no task, no future and no coroutine for a call.

        Args:
            path: `/package.Service/Method`.
            handler: Called with the request in the event loop; ends the call by `Call.finish` or `Call.fail`, now or
                later, or by raising `CallError`. It sets `Call.on_cancel` if it cares whether the client still waits.
            deserialize: Makes a request of a message; may raise `CallError`, and whatever else it raises is INTERNAL.
        """
        self._direct[path.encode()] = functools.partial(_Unary, handler, deserialize)

    def add_stream(self, path: str, opener: Opener) -> None:
        """Adds a direct handler of a stream.

        Args:
            path: `/package.Service/Method`.
            opener: Called when a stream begins.
        """
        self._direct[path.encode()] = opener

    def add_registered(self, service: str, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]) -> None:
        """Adds a servicer's methods, by name."""
        for name, handler in handlers.items():
            self._registered[f"/{service}/{name}".encode()] = handler

    def add_generic(self, handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Adds handlers that are asked for each call whether they have its method."""
        self._generic.extend(handlers)

    def begin(self, call: Call) -> None:
        """Begins a call, or ends it with UNIMPLEMENTED if there is no such method."""
        call.open(self._direct.get(call.path, self._open_servicing))

    def _open_servicing(self, call: Call) -> Receiver:
        handler = self._registered.get(call.path) or self._ask_generic(call)
        if handler is None:
            raise CallError(Status.UNIMPLEMENTED, "Method not found!")
        return Servicing(call, handler, self.tasks)

    def _ask_generic(self, call: Call) -> grpc.RpcMethodHandler[Any, Any] | None:
        details = _Details(call)
        for generic in self._generic:
            handler = generic.service(details)
            if handler is not None:
                return handler
        return None


class _Details(grpc.HandlerCallDetails):
    """What a generic handler may decide by."""

    def __init__(self, call: Call) -> None:
        self.method = call.path.decode("latin-1")
        self.invocation_metadata = call.metadata()


class _Unary(Receiver, Generic[_Request]):
    """Collects the one request of a call."""

    __slots__ = ("_call", "_deserialize", "_handler", "_message")

    def __init__(
        self, handler: Callable[[_Request, Call], None], deserialize: Callable[[bytes], _Request], call: Call
    ) -> None:
        self._handler = handler
        self._deserialize = deserialize
        self._call = call
        self._message: bytes | None = None

    def only(self, message: bytes) -> None:
        try:
            request = self._deserialize(message)
        except CallError:
            raise
        except Exception as error:
            raise CallError(Status.INTERNAL, f"expected a request of this method, got other bytes: {error}") from error
        self._handler(request, self._call)

    def message(self, message: bytes) -> None:
        if self._message is not None:
            raise CallError(Status.UNIMPLEMENTED, "expected one request, got more")
        self._message = message

    def half_close(self) -> None:
        if self._message is None:
            raise CallError(Status.UNIMPLEMENTED, "expected one request, got none")
        self.only(self._message)

    def cancel(self) -> None:
        if self._call.on_cancel is not None:
            self._call.on_cancel()
