"""The methods of a servicer, with what holds for their calls."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message

from services.common.direct import is_direct
from services.common.rules import (
    CallLimit,
    Read,
    Rules,
    Unreadable,
    Write,
    request_reader,
    response_writer,
    stream_reader,
)


@dataclass(frozen=True, eq=False)
class Method:
    """One method.

    Attributes:
        name: Its name alone.
        title: Its name after that of its service, for logs.
        call: What the servicer has under that name.
        direct: Whether that is a `UnaryMethod` or a `StreamMethod`; else it is a coroutine function that returns the
            answer, or an asynchronous generator function that yields the answers, or, where one request is answered by
            many, a coroutine function that writes them to its context.
        client_streaming: Whether requests come as a stream.
        server_streaming: Whether answers go as a stream.
        read: Reads a request; raises `InvalidArgumentError`.
        read_streamed: Reads a request of a stream, which is to go on whatever comes, so that it never raises.
        write: Writes an answer; raises `InvalidArgumentError`.
        limit: Counts the calls that are open.
    """

    name: str
    title: str
    call: Callable[..., Any]
    direct: bool
    client_streaming: bool
    server_streaming: bool
    read: Read
    read_streamed: Callable[[bytes], Message | Unreadable]
    write: Write
    limit: CallLimit


def methods_of(service: ServiceDescriptor, servicer: object, rules: Rules) -> list[Method]:
    """Gives the methods of a service, without those that the servicer does not have, or only inherits from its stub.

    Args:
        service: The service.
        servicer: Has such methods.
        rules: What holds for their calls.
    """
    calls = {method: getattr(servicer, method.name, None) for method in service.methods}
    return [_method(method, call, rules) for method, call in calls.items() if call is not None and _is_method(call)]


def _is_method(call: object) -> bool:
    return is_direct(call) or inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call)


def _method(method: MethodDescriptor, call: Callable[..., Any], rules: Rules) -> Method:
    request, response = (message_factory.GetMessageClass(kind) for kind in (method.input_type, method.output_type))
    read = request_reader(request, rules)
    streams = method.client_streaming or method.server_streaming
    return Method(
        name=method.name,
        title=f"{method.containing_service.name}.{method.name}",
        call=call,
        direct=is_direct(call),
        client_streaming=method.client_streaming,
        server_streaming=method.server_streaming,
        read=read,
        read_streamed=stream_reader(request, read),
        write=response_writer(response, rules.responses),
        limit=rules.streams if streams else rules.calls,
    )
