"""Our own gRPC server, from `services.common.rpc`: its limits, and the direct handlers that it runs without a task."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from google.protobuf.message import Message

from services.common import rpc
from services.common.direct import StreamCall, StreamHandler, UnaryCall, UnaryMethod
from services.common.errors import status_of
from services.common.handlers import method_handlers
from services.common.servicers import Method
from steersman.settings import Settings

_MIB = 1024 * 1024


def server(settings: Settings, *, share_port: bool, connection_age_seconds: float) -> rpc.Server:
    """Makes a server.

    Args:
        settings: For sizes and times.
        share_port: Whether other processes may listen on the same port.
        connection_age_seconds: See `create_server`.
    """
    # Requests up to twice the limit are read, so that each can be refused in words, and on a stream alone.
    largest_request = min(2 * settings.max_message_bytes, 2**31 - 1)
    return rpc.Server(
        rpc.Limits(
            max_receive_message_bytes=largest_request,
            max_send_message_bytes=settings.max_message_bytes,
            max_metadata_bytes=settings.max_metadata_bytes,
            max_concurrent_calls=settings.max_calls_per_connection,
            max_partial_bytes=max(256 * _MIB, 2 * largest_request),
            max_unsent_bytes=max(256 * _MIB, 4 * settings.max_message_bytes),
            # Every deadline that passes is a reset, and all of a connection may pass at once.
            resets=(max(5_000, 2 * settings.max_calls_per_connection), 2_000),
            keepalive_seconds=settings.keepalive_seconds,
            keepalive_timeout_seconds=settings.keepalive_timeout_seconds,
            max_idle_seconds=settings.max_connection_idle_seconds,
            max_age_seconds=connection_age_seconds,
            max_age_grace_seconds=connection_age_seconds,
        ),
        share_port=share_port,
    )


def add_methods(server: rpc.Server, service: str, methods: Sequence[Method]) -> None:
    """Adds the methods of a service.

    Args:
        server: The server.
        service: Full name under which it is served.
        methods: Its methods.
    """
    server.add_registered_method_handlers(service, method_handlers(method for method in methods if not method.direct))
    for method in methods:
        if method.direct:
            path = f"/{service}/{method.name}"
            if method.client_streaming:
                server.methods.add_stream(path, _stream_opener(method))
            else:
                server.methods.add_unary(path, _unary_handler(method), _reader(method))


def _call_error(error: Exception, title: str) -> rpc.CallError:
    code, message, trailing = status_of(error, title)
    return rpc.CallError(rpc.Status(code.value[0]), message, trailing)


def _fail(call: rpc.Call, error: Exception, title: str) -> None:
    failure = _call_error(error, title)
    call.fail(failure.status, failure.message, failure.trailing)


def _reader(method: Method) -> Callable[[bytes], Message]:
    read, title = method.read, method.title

    def read_request(data: bytes) -> Message:
        try:
            return read(data)
        except Exception as error:
            raise _call_error(error, title) from error

    return read_request


def _unary_handler(method: Method) -> Callable[[Message, rpc.Call], None]:
    handle: UnaryMethod = method.call

    def handler(request: Message, call: rpc.Call) -> None:
        try:
            method.limit.begin()
        except Exception as error:
            raise _call_error(error, method.title) from error
        unary = _Unary(call, method)
        try:
            handle(request, unary)
        except Exception as error:  # noqa: BLE001 - the last resort of every call
            unary.fail(error)

    return handler


class _Unary(UnaryCall):
    """A call that ends where it is answered.

    Args:
        call: The call, which is counted already.
        method: Its method.
    """

    __slots__ = ("_call", "_method", "_open")

    def __init__(self, call: rpc.Call, method: Method) -> None:
        super().__init__(call.deadline)
        self._call = call
        self._method = method
        self._open = True
        call.on_cancel = self._cancelled

    def answer(self, response: Message) -> None:
        """Ends the call."""
        try:
            data = self._method.write(response)
        except Exception as error:  # noqa: BLE001 - the last resort of every call
            self.fail(error)
            return
        if self._close():
            self._call.finish(data)

    def fail(self, error: Exception) -> None:
        """Ends the call."""
        if self._close():
            _fail(self._call, error, self._method.title)

    def _cancelled(self) -> None:
        on_cancel = self.on_cancel
        if self._close() and on_cancel is not None:
            on_cancel()

    def _close(self) -> bool:
        """Counts the end of the call; tells whether it was open."""
        was_open, self._open = self._open, False
        if was_open:
            self._method.limit.end()
            # They know each other; without this only the garbage collector would find them, and the request with them.
            self._call.on_cancel = self.on_cancel = None
        return was_open


def _stream_opener(method: Method) -> Callable[[rpc.Call], rpc.Receiver]:
    def opener(call: rpc.Call) -> rpc.Receiver:
        try:
            return _Stream(call, method)
        except Exception as error:
            raise _call_error(error, method.title) from error

    return opener


class _Nobody:
    """Takes the place of a handler that has ended its call."""

    def receive(self, message: object) -> None:
        """Drops it."""

    def half_close(self) -> None:
        """Does nothing."""

    def cancel(self) -> None:
        """Does nothing."""


_NOBODY = _Nobody()


class _Stream(StreamCall, rpc.Receiver):
    """A stream whose handler is told as soon as something comes.

    Args:
        call: The call.
        method: Its method.
    """

    __slots__ = ("_call", "_handler", "_method", "_open", "_read")

    def __init__(self, call: rpc.Call, method: Method) -> None:
        method.limit.begin()
        self._call = call
        self._method = method
        self._read = method.read_streamed
        self._open = True
        try:
            self._handler: StreamHandler = method.call(self)
        except Exception:
            self._close()
            raise

    def message(self, message: bytes) -> None:
        """Hands a request on."""
        try:
            self._handler.receive(self._read(message))
        except Exception as error:
            raise _call_error(error, self._method.title) from error

    def half_close(self) -> None:
        """Hands the end of the requests on."""
        try:
            self._handler.half_close()
        except Exception as error:
            raise _call_error(error, self._method.title) from error

    def cancel(self) -> None:
        """Says that nobody reads any more."""
        handler = self._handler
        self._close()
        handler.cancel()

    def send(self, message: Message) -> None:
        """Sends a message."""
        data = self._method.write(message)
        if self._open:
            self._call.send(data)

    def pause(self) -> None:
        """Reads no more."""
        self._call.pause()

    def resume(self) -> None:
        """Reads again."""
        self._call.resume()

    def end(self, error: Exception | None = None) -> None:
        """Ends the call."""
        if not self._open:
            return
        self._close()
        if error is None:
            self._call.finish()
        else:
            _fail(self._call, error, self._method.title)

    def _close(self) -> None:
        if self._open:
            self._open = False
            self._method.limit.end()
            # They know each other; without this only the garbage collector would find them.
            self._handler = _NOBODY
