"""From a servicer's methods to the handlers that gRPC calls.

What holds for every call stands here, once: how large a message may be, how long a text, how many calls are answered
at a time, and which status an error becomes.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message

from services.common.errors import status_of
from services.common.wire import has_at_most, schema_of
from steersman.errors import InvalidArgumentError, ResourceExhaustedError

MAX_TEXT_BYTES = 16 * 1024
"""Bytes of any text in a request, where texts are checked."""

MAX_FIELDS = 100_000
"""Fields of a request, those of its parts included. One that is smaller than the next number may have more."""

_COUNTED_FROM_BYTES = 256 * 1024
_BEGINNING_BYTES = 1024
"""What is read of a message that has too many fields, to find its id."""

_Context = grpc.aio.ServicerContext[Any, Any]
_Read = Callable[[bytes], Message]
_Write = Callable[[Message], bytes]


class Unreadable(NamedTuple):
    """A message of a stream that cannot be taken.

    Attributes:
        message: As much of it as could be read; of one that is only too large, all.
        error: Why it cannot be taken.
    """

    message: Message
    error: InvalidArgumentError


@dataclass(frozen=True)
class SizeLimit:
    """How large messages may be.

    Attributes:
        most_bytes: The limit.
        advice: What to do about it, as the end of a sentence.
    """

    most_bytes: int
    advice: str

    def check(self, size: int, message: str) -> None:
        """Refuses what is too large.

        Args:
            size: Bytes of a message.
            message: What it is called.

        Raises:
            InvalidArgumentError: If it is too large.
        """
        if size > self.most_bytes:
            raise InvalidArgumentError(
                f"expected {message} of at most {self.most_bytes} bytes, got {size}; {self.advice}"
            )


@dataclass
class CallLimit:
    """How many calls of one kind are answered at a time.

    Attributes:
        kind: What the calls are called, for the message.
        setting: Where the limit comes from.
        most: The limit.
        pushback_milliseconds: When a call that was refused should be made again.
        active: How many are being answered now.
    """

    kind: str
    setting: str
    most: int
    pushback_milliseconds: int
    active: int = 0

    def begin(self) -> None:
        """Counts a call that begins; `end` has to follow.

        Raises:
            ResourceExhaustedError: If there are as many as there may be. It is not counted then.
        """
        if self.active >= self.most:
            raise ResourceExhaustedError(
                f"expected at most {self.most} {self.kind} at a time ({self.setting}), got one more; try again soon",
                self.pushback_milliseconds,
            )
        self.active += 1

    def end(self) -> None:
        """Counts a call that has ended."""
        self.active -= 1


@dataclass(frozen=True)
class Rules:
    """What holds for the calls of a service.

    Attributes:
        requests: How large requests may be.
        responses: How large answers may be.
        check_texts: Whether texts in requests may have `MAX_TEXT_BYTES` at most. Without this the servicer itself has
            to check those that it looks up, keeps or quotes.
        calls: Counts calls that take one request and give one answer.
        streams: Counts all others, which may stay open.
    """

    requests: SizeLimit
    responses: SizeLimit
    check_texts: bool
    calls: CallLimit
    streams: CallLimit


def method_handlers(
    service: ServiceDescriptor, servicer: object, rules: Rules
) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
    """Makes the handlers of a service, by the names of its methods.

    A method is a coroutine function that returns its answer, or an asynchronous generator function that yields its
    answers, or a coroutine function that writes its answers to its context. Whatever it raises ends the call with a
    status. Where requests come as a stream, those that the third kind reads from its context may be `Unreadable`; the
    second kind's call ends with the first of those. Writing an answer that is too large raises `InvalidArgumentError`.
    Methods that the servicer does not have, or only inherits from its stub, are left out.

    Args:
        service: The service.
        servicer: Has such methods.
        rules: What holds for their calls.
    """
    calls = {method: getattr(servicer, method.name, None) for method in service.methods}
    return {
        method.name: _handler(method, call, rules) for method, call in calls.items() if call and _is_asynchronous(call)
    }


def _is_asynchronous(call: object) -> bool:
    return inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call)


def _handler(method: MethodDescriptor, call: Callable[..., Any], rules: Rules) -> grpc.RpcMethodHandler[Any, Any]:
    name = f"{method.containing_service.name}.{method.name}"
    request, response = (message_factory.GetMessageClass(kind) for kind in (method.input_type, method.output_type))
    read, write = _reader(request, rules), _writer(response, rules.responses)
    if method.client_streaming:
        if inspect.isasyncgenfunction(call):
            answers = _answers(name, call, _readable, write, rules.streams)
            return grpc.stream_stream_rpc_method_handler(answers, _stream_reader(request, read))
        writes = _writes(name, call, _as_it_is, rules.streams)
        return grpc.stream_stream_rpc_method_handler(writes, _stream_reader(request, read), write)
    if method.server_streaming:
        if inspect.isasyncgenfunction(call):
            return grpc.unary_stream_rpc_method_handler(_answers(name, call, read, write, rules.streams))
        return grpc.unary_stream_rpc_method_handler(_writes(name, call, read, rules.streams), None, write)
    return grpc.unary_unary_rpc_method_handler(_answer(name, call, read, write, rules.calls))


def _answer(
    name: str, call: Callable[..., Any], read: _Read, write: _Write, limit: CallLimit
) -> Callable[[bytes, _Context], Any]:
    """Handles a method that takes one request and returns its answer."""

    async def handler(data: bytes, context: _Context) -> bytes:
        try:
            limit.begin()
            try:
                return write(await call(read(data), context))
            finally:
                limit.end()
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - the last resort of every call
            status = status_of(error, name)
        # gRPC keeps the exception that ends a call, which holds this frame: nothing large may be left in it.
        ending = context.abort(*status)
        del data, context
        return await ending

    return handler


def _answers(
    name: str, call: Callable[..., Any], read: Callable[[Any], object], write: _Write, limit: CallLimit
) -> Callable[[Any, _Context], AsyncIterator[bytes]]:
    """Handles a method that yields its answers."""

    async def handler(requests: Any, context: _Context) -> AsyncIterator[bytes]:  # noqa: ANN401 - bytes, or a stream
        try:
            limit.begin()
            try:
                async for response in call(read(requests), context):
                    yield write(response)
            finally:
                limit.end()
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - the last resort of every call
            status = status_of(error, name)
        else:
            return
        # gRPC keeps the exception that ends a call, which holds this frame: nothing large may be left in it.
        ending = context.abort(*status)
        del requests, context
        await ending

    return handler


def _writes(
    name: str, call: Callable[..., Any], read: Callable[[Any], object], limit: CallLimit
) -> Callable[[Any, _Context], Any]:
    """Handles a method that writes its answers to its context."""

    async def handler(requests: Any, context: _Context) -> None:  # noqa: ANN401 - bytes, or a stream
        try:
            limit.begin()
            try:
                await call(read(requests), context)
            finally:
                limit.end()
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - the last resort of every call
            status = status_of(error, name)
        else:
            return
        # gRPC keeps the exception that ends a call, which holds this frame: nothing large may be left in it.
        ending = context.abort(*status)
        del requests, context
        await ending

    return handler


def _reader(kind: type[Message], rules: Rules) -> _Read:
    """Gives what reads the requests of a method; it raises `InvalidArgumentError`."""
    parse, limit, name, check_texts = kind.FromString, rules.requests, kind.DESCRIPTOR.name, rules.check_texts
    schema = schema_of(kind)
    looked_at_from = min(_COUNTED_FROM_BYTES, limit.most_bytes)

    def read(data: bytes) -> Message:
        if len(data) > looked_at_from:
            limit.check(len(data), name)
            if not has_at_most(MAX_FIELDS, data, schema):
                raise InvalidArgumentError(f"expected {name} with at most {MAX_FIELDS} fields, got more or other bytes")
        try:
            message: Message = parse(data)
        except DecodeError as error:
            raise InvalidArgumentError(f"expected {name}, got {len(data)} other bytes: {error}") from error
        if check_texts:
            _check_texts(message, name)
        return message

    return read


def _writer(kind: type[Message], limit: SizeLimit) -> _Write:
    """Gives what writes the answers of a method; it raises `InvalidArgumentError`."""
    name = kind.DESCRIPTOR.name
    most_bytes = limit.most_bytes

    def write(message: Message) -> bytes:
        data = message.SerializeToString()
        if len(data) > most_bytes:
            limit.check(len(data), name)
        return data

    return write


def _stream_reader(kind: type[Message], read: _Read) -> Callable[[bytes], Message | Unreadable]:
    """Gives what reads the requests of a stream, which is to go on whatever comes, so that it never raises."""
    schema = schema_of(kind)

    def read_one(data: bytes) -> Message | Unreadable:
        try:
            return read(data)
        except InvalidArgumentError as error:
            message = kind()
            if not has_at_most(MAX_FIELDS, data, schema):
                data = data[:_BEGINNING_BYTES]
            # What comes before a fault is read all the same. That is the id, if anything.
            with contextlib.suppress(DecodeError):
                message.ParseFromString(data)
            return Unreadable(message, error)

    return read_one


def _as_it_is(requests: object) -> object:
    return requests


async def _readable(requests: AsyncIterator[Message | Unreadable]) -> AsyncIterator[Message]:
    async for request in requests:
        if isinstance(request, Unreadable):
            raise request.error
        yield request


def _check_texts(value: object, name: str) -> None:
    """Refuses texts that are too long, however deep in a message they are.

    Raises:
        InvalidArgumentError: If there is one.
    """
    if isinstance(value, str):
        if len(value) > MAX_TEXT_BYTES or len(value.encode()) > MAX_TEXT_BYTES:
            raise InvalidArgumentError(f"expected texts of at most {MAX_TEXT_BYTES} bytes, got a longer one in {name}")
    elif isinstance(value, Message):
        for field, part in value.ListFields():
            if field.cpp_type in {FieldDescriptor.CPPTYPE_STRING, FieldDescriptor.CPPTYPE_MESSAGE}:
                _check_texts(part, f"{name}.{field.name}")
    elif isinstance(value, Mapping):
        for key, part in value.items():
            _check_texts(key, name)
            _check_texts(part, name)
    elif isinstance(value, Sequence) and not isinstance(value, bytes):
        for part in value:
            _check_texts(part, name)
